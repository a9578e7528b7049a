"""The filter language: what conditions mean, what is told of mistakes, and that nothing else can happen."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import And, Between, Contains, Equals, Exists, Not, OneOf, Or, check, matches

FIELDS = {"genres": "keyword", "year": "integer", "price": "float", "new": "bool", "price band": "keyword"}
FILM = {"genres": ["Drama", "Film-Noir"], "year": 1944, "price": 7.5, "new": False}
PLAIN = r"""[^\s()'",=!<>]"""
ORDERS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
RESERVED = frozenset({"or", "and", "not", "in", "contains", "exists", "is", "null"})


def written(expression):
    """An expression in words that :func:`parse` reads as the same one."""
    match expression:
        case And(operands):
            return joined(" and ", operands, "always")
        case Or(operands):
            return joined(" or ", operands, "never")
        case Not(operand):
            return f"not {bracketed(operand)}"
        case Equals(field, value):
            return f"{quoted(field)} = {literal(value)}"
        case OneOf(field, values):
            return f"{quoted(field)} in ({', '.join(map(literal, values))})"
        case Contains(field, part):
            return f"{quoted(field)} contains {quoted(part)}"
        case Exists(field):
            return f"{quoted(field)} exists"
        case Between(field):
            ends = [(sign, getattr(expression, name)) for sign, name in ORDERS.items()]
            return " and ".join(f"{quoted(field)} {sign} {end!r}" for sign, end in ends if end is not None)


def quoted(word):
    if re.fullmatch(f"{PLAIN}+", word) and word.lower() not in RESERVED:
        return word
    return "'" + word.replace("'", "''") + "'"


def literal(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def bracketed(expression):
    text = written(expression)
    several = isinstance(expression, And | Or) or (isinstance(expression, Between) and " and " in text)
    return f"({text})" if several else text


def joined(word, operands, empty):
    if not operands:
        raise ValueError(f"what {empty} holds cannot be written")
    return word.join(map(bracketed, operands))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("genres = Drama", Equals("genres", "Drama")),
        ("genres != Drama", Not(Equals("genres", "Drama"))),
        ("year>=1990", Between("year", gte=1990)),
        ("price < .5", Between("price", lt=0.5)),
        ("price = 7", Equals("price", 7)),
        ("year in (1990, 1991)", OneOf("year", (1990, 1991))),
        ("year not in (1990)", Not(OneOf("year", (1990,)))),
        ("price in (1, 2.5)", Or((Equals("price", 1), Equals("price", 2.5)))),
        ("new = Yes and genres contains oi", And((Equals("new", True), Contains("genres", "oi")))),
        ("year contains 1990", Equals("year", 1990)),
        ("price is null", Not(Exists("price"))),
        ("price is not null or price exists", Or((Exists("price"), Exists("price")))),
        ("'price band' = \"it's \"\"cheap\"\"\"", Equals("price band", 'it\'s "cheap"')),
        ("NOT year < 3 AND new = no OR genres = nothing", Or((
            And((Not(Between("year", lt=3)), Equals("new", False))), Equals("genres", "nothing")
        ))),
        ("not (year < 3 and new = no)", Not(And((Between("year", lt=3), Equals("new", False))))),
        ("genres = 1990", Equals("genres", "1990")),
        ("genres\n=\tnotes", Equals("genres", "notes")),
    ],
)  # fmt: skip
def test_by_hand(text, expected):
    assert parse(text, FIELDS) == expected


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("genres = Drama and year < 1950", True),
        ("genres = drama", False),
        ("genres contains Noir and not genres contains noir", True),
        ("genres in (Comedy, Film-Noir)", True),
        ("'price band' != cheap", True),  # there is none
        ("'price band' exists or price > 7.5", False),
        ("new = false and price >= 7.5", True),
    ],
)
def test_what_it_means(text, holds):
    assert matches(parse(text, FIELDS), FILM) is holds


@pytest.mark.parametrize(
    ("text", "place", "words", "hint"),
    [
        ("genres =", 8, "missing at the end", "genres, year"),
        ("genres Drama", 7, "'Drama' does not fit here; it could be", "genres, year"),
        ("genres = Sci Fi", 13, "'Fi' does not fit here", "quotes"),
        ("genres in (Sci Fi)", 15, "'Fi' does not fit here; it could be ')', ','", "fields are"),
        ("year > 3)", 8, "')' does not fit here", "fields are"),
        ("(year > 3", 9, "it could be ')'", "fields are"),
        ("gnres = Drama", 0, "no field 'gnres'", "did you mean 'genres'"),
        ("year > x", 7, "'year' holds numbers", "year > 5"),
        ("year = null", 7, "null is no value", "year is null"),
        ("genres > 3", 7, "'genres' holds words", "= or in"),
        ("new < 3", 4, "'new' is true or false", "= or in"),
        ("new = maybe", 6, "'new' is true or false", "new = true"),
        ("year in ()", 9, "')' does not fit here", "fields are"),
        ("genres = 'Drama", 9, "does not fit here", "fields are"),
        ("genres = 日本 and x = 1", 16, "no field 'x'", "fields are"),
    ],
)
def test_the_message_points_at_the_place(text, place, words, hint):
    with pytest.raises(RequestError) as caught:
        parse(text, FIELDS)
    first, line, caret = caught.value.message.split("\n")
    assert words in first
    assert line == f"  {text}"
    wide = sum(character in "日本" for character in text[:place])
    assert caret == " " * (2 + place + wide) + "^"
    assert hint in caught.value.hint


def test_nothing_and_too_much():
    for text in ("", " \t\n"):
        with pytest.raises(RequestError, match="empty"):
            parse(text, FIELDS)
    for text in ("not " * 60 + "year > 3", "(new = no or " * 60 + "year > 3" + ")" * 60):
        with pytest.raises(RequestError, match="levels"):
            parse(text, FIELDS)
    many = parse(" and ".join(["year > 3"] * 200), FIELDS)
    assert len(many.operands) == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("year > 3" + " " * 4096, "longer than 4,096 bytes"),
        ("genres = " + "日" * 1400, "longer than 4,096 bytes"),
        (" and ".join(["year > 3"] * 201), "more than 200 terms"),
        (f"year in ({', '.join(map(str, range(201)))})", "more than 200 terms"),
        ("(" * 4096, "something is missing at the end"),
        ("x" * 4000, "something is missing"),
        ("'" * 4001, "does not fit here"),
        ("genres = \ud800", "not valid Unicode"),
    ],
)
def test_what_is_larger_than_a_filter_may_be_is_refused_in_a_few_words(text, words):
    with pytest.raises(RequestError, match=words) as caught:
        parse(text, FIELDS)
    assert len(caught.value.message) < 400


def test_a_mistake_far_behind_is_shown_with_what_stands_around_it():
    text = "year > 3 and " * 60 + "yaer > 3" + " and year > 3" * 60
    with pytest.raises(RequestError, match="no field 'yaer'") as caught:
        parse(text, FIELDS)
    _, line, caret = caught.value.message.split("\n")
    assert len(line) == 82
    assert line[len(caret) - 1 :].startswith("yaer")


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(RequestError, match="too large"):
        parse(f"year < {'9' * 4000}", FIELDS)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("year > 3", "no condition"),
        (Equals("year", None), "no value"),
        (Equals("year", 10**400), "no value"),
        (Equals(3, 4), "no text"),
        (Between("year", gt="3"), "no number"),
        (And((Exists("year"),) * 201), "200 terms"),
        (OneOf("genres", tuple(map(str, range(201)))), "200 terms"),
        (And((And(()),) * 201), "200 terms"),
    ],
)
def test_conditions_that_are_built_are_bounded_too(condition, words):
    with pytest.raises(RequestError, match=words):
        check(condition)


def test_depth_and_sharing_cost_nothing():
    deep, wide = Exists("year"), And(())
    for _ in range(100_000):
        deep = Not(deep)
    for _ in range(60):
        wide = And((wide, wide))
    for condition in (deep, wide):
        with pytest.raises(RequestError, match=r"levels|terms"):
            check(condition)


words = st.text(min_size=1, max_size=8).filter(lambda word: not any(c.isspace() and c != " " for c in word))
numbers = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
comparisons = st.one_of(
    st.builds(Equals, st.sampled_from(["genres", "price band"]), words),
    st.builds(Equals, st.sampled_from(["year", "price"]), numbers),
    st.builds(Equals, st.just("new"), st.booleans()),
    st.builds(OneOf, st.just("genres"), st.lists(words, min_size=1, max_size=3).map(tuple)),
    st.builds(OneOf, st.just("year"), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3).map(tuple)),
    st.builds(Contains, st.just("genres"), words),
    st.builds(Exists, st.sampled_from(list(FIELDS))),
    st.builds(lambda name, kind, bound: Between(name, **{kind: bound}), st.sampled_from(["year", "price"]),
              st.sampled_from(["gt", "gte", "lt", "lte"]), numbers),
)  # fmt: skip
expressions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(expressions)
def test_what_is_written_reads_as_the_same(expression):
    assert parse(written(expression), FIELDS) == expression


@settings(deadline=None, max_examples=400)
@given(st.text(max_size=40) | st.lists(st.sampled_from(
    ["genres", "year", "new", "=", "!=", "<", "(", ")", ",", "in", "not", "and", "or", "is", "null", "exists", "'", '"',
     "contains", "7", "1e999", "true", "x y", "\0", "é"]), max_size=12).map(" ".join))  # fmt: skip
@example("year = 1e999")
@example("year = " + "9" * 5000)
def test_any_text_is_a_condition_or_a_clear_mistake(text):
    try:
        expression = parse(text, FIELDS)
    except RequestError as mistake:
        told = mistake
    else:
        assert matches(expression, FILM) in (True, False)
        return
    assert told.message
    assert told.hint
