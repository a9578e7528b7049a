"""Clean text, templates and list columns against plain Python."""

import re
import unicodedata

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.schema import Template, attribute_phrase
from molar_retrieval.data.values import STRING_LIST, as_payload, clean_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.lists(st.none() | TEXT, max_size=8)
INVISIBLE = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), *map(chr, range(0xFFF9, 0xFFFC))}
INVISIBLE |= {"\u200b", "\u2060", "\ufeff"}


def _clean(text):
    if text is None:
        return None
    kept = [c for c in text if c not in INVISIBLE and (unicodedata.category(c) != "Cc" or c.isspace())]
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", "".join(kept)).strip()) or None


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_clean_text_is_what_python_says(values):
    cleaned = clean_text(pa.array(values, pa.string()))
    assert cleaned.to_pylist() == [_clean(v) for v in values]
    assert clean_text(cleaned).equals(cleaned)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.none() | st.lists(st.none() | TEXT, max_size=4), max_size=8), st.data())
def test_lists_keep_their_rows(values, data):
    start = data.draw(st.integers(0, len(values)))
    found = as_payload(pa.array(values, STRING_LIST).slice(start), STRING_LIST)
    found.validate(full=True)
    assert found.to_pylist() == [None if v is None else [e for e in v if e] for v in values[start:]]


PHRASE = st.none() | st.text("ab ", min_size=1, max_size=3)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(PHRASE, PHRASE, PHRASE), max_size=6))
def test_a_template_is_its_lines(rows):
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(3)]
    fields = {"a": columns[0], "b": columns[1], "attributes": attribute_phrase({"c_d": columns[2]}, len(rows))}
    rendered = Template.parse("x {a}{b}\n{attributes}\n{b}").render(fields, len(rows)).to_pylist()
    expected = []
    for a, b, c in rows:
        lines = [f"x {a or ''}{b or ''}"] if a is not None or b is not None else []
        lines += [f"c d: {c}"] if c is not None else []
        lines += [b] if b is not None else []
        expected.append("\n".join(lines) if lines else None)
    assert rendered == expected
