"""From when an item may be shown: the three columns as people write them, and what follows."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.availability import ALWAYS, NEVER, Availability, moment, understood
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.errors import DataError
from molar_retrieval.ranking.filters import matches
from molar_retrieval.workspace.artefacts import Workspace

FIRST_OF_MAY = moment(datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


@pytest.fixture
def workspace(tmp_path, shop):
    return Workspace.for_catalogue(tmp_path / "work", shop)


def _prepared(shop, workspace):
    prepare_catalogue(shop, workspace)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    return catalogue, [row for b in catalogue.batches(catalogue.payload, 10) for row in b.to_pylist()]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, ALWAYS),
        ({"active": True, "stock": 3, "available_from": "2026-05-01T00:00:00Z"}, FIRST_OF_MAY),
        ({"active": False}, NEVER),
        ({"active": None, "stock": None, "available_from": None}, ALWAYS),
        ({"stock": 0}, NEVER),
        ({"stock": -2.0}, NEVER),
        ({"stock": 0.5}, ALWAYS),
        ({"stock": False}, NEVER),
        ({"stock": "0"}, ALWAYS),
        ({"active": 0}, ALWAYS),
        ({"available_from": "soon"}, ALWAYS),
        ({"available_from": "1900-01-01"}, ALWAYS),
        ({"available_from": "2026-05-01", "stock": 0}, NEVER),
    ],
)
def test_the_moment_from_which_an_item_may_be_shown(payload, expected):
    known = Availability()
    assert known.shown_from(payload) == expected
    condition = known.condition({"active", "stock"})
    assert matches(condition, payload) == (expected != NEVER)


def test_without_such_fields_there_is_no_condition():
    assert Availability().condition({"price"}) is None
    assert Availability(stock="left").shown_from({"left": 0}) == NEVER
    assert Availability(stock="left").shown_from({"stock": 0}) == ALWAYS


@pytest.mark.parametrize(
    ("role", "value", "expected"),
    [
        ("active", "Ja", True),
        ("active", " nein ", False),
        ("active", "販売終了", False),
        ("active", 0, False),
        ("active", "1", True),
        ("active", "Ibuprofen", None),
        ("active", [True], None),
        ("active", float("nan"), None),
        ("stock", "ausverkauft", 0.0),
        ("stock", "Out  of stock", 0.0),
        ("stock", "in stock", 1.0),
        ("stock", ">10", 10.0),
        ("stock", "1.200 Stück", 1200.0),
        ("stock", "2,5", 2.5),
        ("stock", "1,2,3", None),
        ("stock", "bald", None),
        ("stock", 7, 7),
        ("available_from", "2026-05-01 10:00+02:00", "2026-05-01T08:00:00Z"),
        ("available_from", "Mai", None),
        ("available_from", 5, None),
    ],
)
def test_values_are_understood_however_they_are_written(role, value, expected):
    found = understood(role, value)
    assert found == expected
    assert type(found) is type(expected)


def test_csv_columns_in_german_mean_what_people_mean(shop, workspace):
    lines = ["id;title;stock;active;available_from", "1;a;12;ja;31.12.2026", "2;b;0;ja;1.1.2026 12:30", "3;c;;nein;"]
    (shop / "items.csv").write_text("\n".join(lines), "utf-8")
    (shop / "catalog.toml").write_text('[interactions]\ntime_zone = "Europe/Berlin"\n')
    catalogue, rows = _prepared(shop, workspace)
    assert rows == [
        {"stock": 12, "active": True, "available_from": "2026-12-30T23:00:00Z"},
        {"stock": 0, "active": True, "available_from": "2026-01-01T11:30:00Z"},
        {"stock": None, "active": False, "available_from": None},
    ]
    assert catalogue.fields == {"stock": "integer", "active": "bool", "available_from": "keyword"}
    assert catalogue.availability == Availability()
    assert catalogue.attributes == ()
    assert [catalogue.availability.shown_from(row) == NEVER for row in rows] == [False, True, True]


def test_columns_of_other_names_are_named_in_catalog_toml(shop, workspace):
    items = [{"id": "1", "Lager": "ausverkauft", "Aktiv": "j"}, {"id": "2", "Lager": "viel", "Aktiv": "j"}]
    (shop / "items.jsonl").write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in items), "utf-8")
    (shop / "catalog.toml").write_text('[items]\nstock = "Lager"\nactive = "Aktiv"\n')
    catalogue, rows = _prepared(shop, workspace)
    assert rows == [{"Lager": 0.0, "Aktiv": True}, {"Lager": None, "Aktiv": True}]
    assert catalogue.availability == Availability(stock="Lager", active="Aktiv")
    rejects = pq.read_table(catalogue.version / "rejects.parquet").to_pylist()
    assert [(one["row"], one["reason"]) for one in rejects] == [(2, "not understood, left empty: Lager is viel")]


def test_a_named_column_must_be_there_and_of_a_fitting_type(shop, workspace):
    pq.write_table(pa.table({"id": ["1"], "sizes": [["S", "M"]]}), shop / "items.parquet")
    (shop / "catalog.toml").write_text('[items]\nstock = "sises"\n')
    with pytest.raises(DataError, match="sises"):
        prepare_catalogue(shop, workspace)
    (shop / "catalog.toml").write_text('[items]\nstock = "sizes"\n')
    with pytest.raises(DataError, match="the stock column 'sizes' holds list"):
        prepare_catalogue(shop, workspace)


def test_a_column_that_means_something_else_stays_what_it_is(shop, workspace):
    pq.write_table(pa.table({"id": ["1", "2"], "active": ["Ibuprofen", "Paracetamol"]}), shop / "items.parquet")
    catalogue, rows = _prepared(shop, workspace)
    assert rows == [{"active": "Ibuprofen"}, {"active": "Paracetamol"}]
    assert catalogue.attributes == ("active",)
    assert catalogue.manifest.facts["availability"] == {}


def test_numbers_and_dates_of_parquet_keep_their_types(shop, workspace):
    moments = pa.array([datetime(2026, 5, 1, tzinfo=UTC), None])
    columns = {"id": ["1", "2"], "stock": pa.array([2.5, float("nan")]), "active": [1, 0], "available_from": moments}
    pq.write_table(pa.table(columns), shop / "items.parquet")
    _, rows = _prepared(shop, workspace)
    assert rows[0] == {"stock": 2.5, "active": True, "available_from": "2026-05-01T00:00:00Z"}
    assert rows[1] == {"stock": None, "active": False, "available_from": None}


def test_days_that_can_be_read_in_two_ways_are_refused(shop, workspace):
    (shop / "items.csv").write_text("id,available_from\n1,03/04/2026\n", "utf-8")
    with pytest.raises(DataError, match="column 'available_from'") as caught:
        prepare_catalogue(shop, workspace)
    assert "2026-12-31" in caught.value.hint
