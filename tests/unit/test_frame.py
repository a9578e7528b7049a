"""Tables on their way out."""

import pandas as pd
import polars as pl
import pyarrow as pa

from molar_retrieval.frames import Frame

ROWS = [{"model": "<b>", "mean": 0.123456}, {"model": "EASE", "mean": None}]
FRAME = Frame.of(ROWS, {"model": "string", "mean": "double"})


def test_data_frame_libraries_take_it_as_it_is():
    assert pa.table(FRAME).to_pylist() == FRAME.to_pylist()
    assert pl.DataFrame(FRAME).rows() == [("<b>", 0.123456), ("EASE", None)]
    assert isinstance(FRAME.to_pandas(), pd.DataFrame)
    assert len(FRAME) == 2
    assert FRAME.columns == ["model", "mean"]


def test_it_shows_itself_harmlessly():
    assert "0.1235" in repr(FRAME)
    assert "&lt;b&gt;" in FRAME._repr_html_()
    assert "<b>" not in FRAME._repr_html_()


def test_of_a_long_one_the_beginning_is_shown():
    long = Frame.of([{"n": n} for n in range(100)], {"n": "int32"})
    assert "70 more rows" in repr(long)
    assert "70 more rows" in long._repr_html_()
