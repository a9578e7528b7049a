"""The template that puts an item into words."""

import pyarrow as pa
import pytest

from molar_retrieval.data.schema import DEFAULT, Template, attribute_phrase, label
from molar_retrieval.errors import DataError


def _render(template, **fields):
    n = len(next(iter(fields.values()))) if fields else 1
    arrays = {name: pa.array(values, pa.string()) for name, values in fields.items()}
    return Template.parse(template).render(arrays, n).to_pylist()


def test_a_line_without_any_value_is_dropped():
    rendered = _render(
        DEFAULT,
        title=["T", None, None],
        attributes=["a: b", "a: c", None],
        description=[None, "D", None],
    )
    assert rendered == ["T\na: b", "a: c\nD", None]


def test_words_around_a_field_go_with_it():
    assert _render("Brand: {brand}\n{title}!", brand=["X", None], title=["T", "U"]) == ["Brand: X\nT!", "U!"]


def test_a_line_with_one_of_two_fields_stays():
    assert _render("{a} by {b}", a=["x", None, None], b=[None, "y", None]) == ["x by ", " by y", None]


def test_a_line_of_words_alone_stays_unless_nothing_is_said():
    assert _render("A product.\n{title}", title=["T", None]) == ["A product.\nT", None]


def test_braces():
    assert _render("{{{title}}}", title=["T"]) == ["{T}"]


def test_fields_are_listed_once():
    assert Template.parse("{title} {brand}\n{ title }").fields == ("title", "brand")


@pytest.mark.parametrize("bad", ["{title", "title}", "{}", "{title!r}", "{title:>10}"])
def test_a_wrong_template_is_refused_with_a_remedy(bad):
    with pytest.raises(DataError, match=r"catalog\.toml") as caught:
        Template.parse(bad, "catalog.toml")
    assert "{title}" in caught.value.hint


def test_attribute_phrase():
    columns = {"genres": pa.array(["Drama, Comedy", None, None]), "made_in": pa.array(["France", "Spain", None])}
    told = attribute_phrase(columns, 3).to_pylist()
    assert told == ["genres: Drama, Comedy; made in: France", "made in: Spain", None]


def test_no_attributes_say_nothing():
    assert attribute_phrase({}, 2).to_pylist() == [None, None]


def test_label():
    assert label("product_type__name") == "product type name"
