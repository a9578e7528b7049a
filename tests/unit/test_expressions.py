"""The meaning of conditions on a payload."""

import pytest

from molar_retrieval.ranking.filters import And, Between, Equals, Expression, Not, OneOf, Or, matches

ITEM = {"brand": "x", "tags": ["a", "b"], "year": 2001, "price": 9.5, "new": True, "sizes": [36, 42], "gone": None}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (Equals("brand", "x"), True),
        (Equals("brand", "X"), False),
        (Equals("tags", "b"), True),
        (Equals("tags", "c"), False),
        (Equals("year", 2001.0), True),
        (Equals("new", True), True),
        (Equals("new", 1), False),
        (Equals("year", True), False),
        (Equals("gone", "x"), False),
        (Equals("absent", "x"), False),
        (OneOf("brand", ("y", "x")), True),
        (OneOf("sizes", (40, 42)), True),
        (OneOf("brand", ()), False),
        (Between("year", gt=2000, lt=2002), True),
        (Between("year", gt=2001), False),
        (Between("year", gte=2001, lte=2001), True),
        (Between("sizes", gt=40), True),
        (Between("sizes", gt=42), False),
        (Between("brand", gt=0), False),
        (Between("new", gte=0), False),
        (Between("price"), True),
        (Between("absent"), False),
        (Not(Equals("absent", "x")), True),
        (And(()), True),
        (Or(()), False),
        (And((Equals("brand", "x"), Not(Equals("tags", "a")))), False),
        (Or((Equals("brand", "y"), Between("price", lt=10))), True),
    ],
    ids=str,
)
def test_matches(expression: Expression, holds: bool) -> None:
    assert matches(expression, ITEM) is holds
