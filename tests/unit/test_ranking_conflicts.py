"""Rules that get in each other's way, or can never act."""

from typing import Any

import pytest

from molar_retrieval.ranking.filters import matches
from molar_retrieval.ranking.rules import Rules, conflicts

FIELDS = {"item_id": "keyword", "brand": "keyword", "stock": "integer"}
CATALOGUE = {"1": {"brand": "Own", "stock": 3}, "2": {"brand": "Acme", "stock": 0}}
PEOPLE = [{"country": "JP"}, {"country": "DE"}]
PIN = {"pin": ["1"]}


def found(*tables: dict[str, Any]) -> list[tuple[str, tuple[int, ...], str]]:
    items = {item_id: {"item_id": item_id, **payload} for item_id, payload in CATALOGUE.items()}
    told = conflicts(
        Rules.of({"rule": list(tables)}, FIELDS, {"country": "keyword"}),
        lambda ids: {item_id: items[item_id] for item_id in ids if item_id in items},
        lambda condition: any(matches(condition, item) for item in items.values()),
        lambda segment: any(matches(segment, one) for one in PEOPLE),
    )
    assert all(one.sentence for one in told)
    return [(one.kind, one.rules, one.what) for one in told]


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([PIN, {"pin": ["2"], "for": "country = JP"}], ("place", (0, 1), "1")),
        ([PIN, {"ban": ["1"], "for": "country = JP"}], ("hidden_pin", (0, 1), "'1'")),
        ([{"require": "stock > 1"}, {"pin": ["2"], "at": 3}], ("hidden_pin", (1, 0), "'2'")),
        ([{"at_least": 3, "of": "brand = Own"}, {"at_most": 2, "per": "brand"}], ("quota", (0, 1), "brand = Own")),
        ([{"at_least": 1, "of": "brand = Own"}, {"ban": "brand = Own"}], ("quota", (0, 1), "brand = Own")),
        ([{"boost": "brand = Own"}, {"bury": "brand = Own"}], ("opposite", (0, 1), "brand = Own")),
        ([PIN | {"from": "2026-02-01", "until": "2026-01-01"}], ("never", (0,), "")),
        ([PIN | {"for": "country = FR"}], ("nobody", (0,), "country = FR")),
        ([{"boost": "stock > 9"}], ("nothing", (0,), "stock > 9")),
        ([{"pin": ["1", "9"]}], ("unknown", (0,), "'9'")),
    ],
)
def test_each_conflict_is_told(tables: list[dict[str, Any]], told: tuple[str, tuple[int, ...], str]) -> None:
    assert found(*tables) == [told]


@pytest.mark.parametrize(
    "tables",
    [
        [PIN, {"pin": ["2"], "at": 2}, {"boost": "brand = Own"}, {"bury": "brand = Acme"}],
        [PIN | {"until": "2026-01-31"}, {"pin": ["2"], "from": "2026-02-01"}],
        [PIN | {"until": "2026-01-31"}, {"ban": ["1"], "from": "2026-02-01"}],
        [{"at_least": 4, "of": "brand in (Own, Acme)"}, {"at_most": 2, "per": "brand"}],
    ],
)
def test_what_gets_along_is_not_told(tables: list[dict[str, Any]]) -> None:
    assert found(*tables) == []
