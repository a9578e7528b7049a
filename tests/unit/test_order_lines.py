"""A file in the format of the catalogue's interactions log, appended to the event log."""

import json
import subprocess
import sys
import time

import own_tables
import pytest

import molar
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions

HEAD = ["Auftragsnr", "Kundennr", "Artikelnr", "Bestelldatum", "Menge", "Einzelpreis"]
LOG = [
    ["B1", "Müller", "A-1", "30.11.2025 09:05", "1", "12,50"],
    ["B1", "Müller", "A-2", "30.11.2025 09:05", "2", "1.299,00"],
    ["B2", "Weiß", "A-1", "01.12.2025 23:30", "1", "12,50"],
]
NEXT = [
    LOG[2],
    ["B3", "Weiß", "A-3", "02.12.2025 00:15", "3", "7,90"],
    ["B3", "Weiß", "A-3", "02.12.2025 00:15", "1", "0,00"],
    ["B4", "Jäger", "A-2", "02.12.2025 10:00", "1", "1.299,00"],
]


@pytest.fixture
def shop(tmp_path):
    """A shop by `molar.init`, as a German system exports it."""
    items = [["Artikelnr", "Bezeichnung"], *([f"A-{n}", f"Stuhl aus Eiche Nr. {n}"] for n in range(1, 12))]
    rows = [HEAD, *LOG, *([f"B0{n}", f"K{n % 4}", f"A-{n}", f"{n}.10.2025 10:00", "1", "9,90"] for n in range(1, 12))]
    folder = tmp_path / "shop"
    folder.mkdir()
    own_tables.write(folder / "Artikel.csv", items, ";", "cp1252")
    own_tables.write(folder / "Auftraege.csv", rows, ";", "cp1252")
    return molar.init(folder, time_zone="Europe/Berlin", language="de").shop


def appended(shop, rows, name="heute.csv", head=HEAD, encoding="cp1252"):
    path = shop.catalogue / "eingang" / name
    path.parent.mkdir(exist_ok=True)
    own_tables.write(path, [head, *rows], ";", encoding)
    return shop.events.append(path)


def lines(shop):
    return shop.events.table().to_pandas()


def test_the_next_days_file_is_read_by_the_mapping_of_the_catalogue(shop):
    found = appended(shop, NEXT)
    assert (found.accepted, found.repeated, found.refused) == (3, 0, 0), found.refusals
    log = lines(shop).set_index(["transaction_id", "line"]).sort_index()
    assert set(log["event"]) == {"purchase"}
    assert log.loc[("B4", 0), "user_id"] == "Jäger"
    assert log.loc[("B4", 0), "timestamp"].isoformat() == "2025-12-02T09:00:00+00:00"
    assert log.loc[("B4", 0), "value"] == 1299.0
    assert log.loc["B3"][["quantity", "value"]].to_numpy().tolist() == [[3.0, 3 * 7.9], [1.0, 0.0]]


def test_rows_that_come_again_add_nothing(shop):
    before = appended(shop, NEXT[:3], "gestern.csv")
    assert before.accepted == 2
    found = appended(shop, [*NEXT, ["B5", "Jäger", "A-4", "02.12.2025 11:00", "1", "1,00"]])
    assert (found.accepted, found.repeated) == (2, 2)
    assert appended(shop, [*NEXT][::-1], "noch einmal.csv").accepted == 0
    assert len(lines(shop)) == 5


def test_rows_without_an_order_are_told_apart_by_user_item_time_and_number(shop):
    toml = shop.catalogue / "catalog.toml"
    toml.write_text(toml.read_text("utf-8").replace('order_id = "Auftragsnr"', 'order_id = ""'), "utf-8")
    twice = [NEXT[1], NEXT[1], NEXT[3]]
    assert appended(shop, twice[1:]).accepted == 2
    found = appended(shop, twice, "alles.csv")
    assert (found.accepted, found.repeated) == (1, 2)
    assert sorted(lines(shop)["line"]) == [0, 0, 1]


def test_bad_rows_are_refused_by_row_and_column_and_no_other_is_lost(shop):
    bad = [
        ["B6", "", "A-1", "02.12.2025 10:00", "1", "1,00"],
        ["B6", "Jäger", "A-1", "31.11.2025 10:00", "1", "1,00"],
        ["B6", "Jäger", "A-1", "01.01.1900", "1", "1,00"],
        ["B6", "Jäger", "A-1", "02.12.2025 10:00", "-1", "1,00"],
        ["B6", "Jäger", "A-1", "02.12.2025 10:00", "1", "frei"],
        ["B6", "Jäger"],
    ]
    found = appended(shop, [*bad, NEXT[3]])
    assert (found.accepted, found.refused) == (1, len(bad))
    told = [(one.row, one.field) for one in sorted(found.refusals, key=lambda one: one.row)]
    fields = ["user_id", "timestamp", "timestamp", "quantity", "price", "row"]
    assert told == list(enumerate(fields, 1))
    assert "'31.11.2025 10:00'" in next(one.problem for one in found.refusals if one.row == 2)
    assert "return" in next(one.remedy for one in found.refusals if one.row == 4)


def test_another_column_says_the_kind(shop):
    toml = shop.catalogue / "catalog.toml"
    toml.write_text(toml.read_text("utf-8").replace("[interactions]", '[interactions]\nevent = "Art"'), "utf-8")
    rows = [[*NEXT[3], "view"], [*NEXT[1], "return"], [*NEXT[1], ""], [*NEXT[1], "Kauf"]]
    found = appended(shop, rows, head=[*HEAD, "Art"])
    assert sorted(lines(shop)["event"]) == ["purchase", "return", "view"]
    assert [(one.row, one.field) for one in found.refusals] == [(4, "event")]


def test_a_point_or_a_comma_is_not_guessed(shop):
    rows = [[*NEXT[3][:5], "1.299"]]
    with pytest.raises(molar.MolarError, match=r"'1\.299'") as error:
        appended(shop, rows)
    assert "[interactions] decimal" in error.value.hint
    toml = shop.catalogue / "catalog.toml"
    toml.write_text(toml.read_text("utf-8").replace("[interactions]", '[interactions]\ndecimal = ","'), "utf-8")
    appended(shop, rows)
    assert lines(shop)["value"].tolist() == [1299.0]


def test_a_table_that_is_neither_names_what_it_lacks(shop):
    with pytest.raises(molar.MolarError, match="Kundennr"):
        appended(shop, [["A-1", "3"]], head=["Artikelnr", "Lager"])
    assert not (shop.workspace / "events" / "log.sqlite").exists()


def test_events_in_their_own_columns_stay_events(shop, tmp_path):
    assert appended(shop, NEXT).accepted == 3
    shop.events.export(tmp_path / "all.csv")
    assert shop.events.append(tmp_path / "all.csv").repeated == 3 + 1  # of an event, each line is a row
    own = "user_id,item_id,timestamp,event,event_id,position\nu,A-1,2025-12-02T10:00:00Z,impression,e1,3\n"
    (tmp_path / "own.csv").write_text(own)
    assert shop.events.append(tmp_path / "own.csv").accepted == 1
    assert lines(shop).set_index("event_id").loc["e1", "position"] == 3
    (tmp_path / "own.jsonl").write_text(json.dumps({"event": "view", "event_id": "e2", "user_id": "u", "item_id": "A-1",
                                                    "timestamp": 1_764_000_000}))  # fmt: skip
    assert shop.events.append(tmp_path / "own.jsonl").accepted == 1


def test_canonical_columns_without_ids_are_order_lines(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title\na,Chair\nb,Table\n")
    rows = "user_id,item_id,timestamp\nu,a,2025-12-02T10:00:00Z\nu,b,2025-12-02\n"
    (tmp_path / "today.csv").write_text(rows)
    shop = molar.open(folder)
    assert shop.events.append(tmp_path / "today.csv").accepted == 2
    assert shop.events.append(str(tmp_path / "today.csv")).repeated == 2
    assert set(lines(shop)["event"]) == {"purchase"}


def test_a_row_of_the_catalogues_own_log_counts_once(shop):
    """The day's file may be in the next export of the whole log as well, and the other way round."""
    assert appended(shop, [*LOG, NEXT[3]]).accepted == 4
    prepare_catalogue(shop.catalogue, shop.opened())
    facts = prepare_interactions(shop.catalogue, shop.opened()).facts
    assert (facts["of_events"]["in_file"], facts["of_events"]["counted"]) == (3, 1)
    assert facts["interactions"] == len(LOG) + 11 + 1


def test_a_change_of_keys_keeps_rows_known(shop, tmp_path, monkeypatch):
    toml = shop.catalogue / "catalog.toml"
    toml.write_text(toml.read_text("utf-8").replace('order_id = "Auftragsnr"', 'order_id = ""'), "utf-8")
    assert appended(shop, NEXT).accepted == len(NEXT)
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "outside" / "key"))
    (tmp_path / "outside").mkdir()
    (shop.workspace.parent / "molar.toml").write_text('[privacy]\nids = "pseudonymous"\n')
    seen = set()
    for _ in range(3):
        ids = set(lines(shop)["event_id"])
        assert not ids & seen
        seen |= ids
        shop.privacy.rotate()
        assert appended(shop, NEXT).repeated == len(NEXT)
    assert len(lines(shop)) == len(NEXT)


CHILD = "import molar, sys; molar.Shop(None, sys.argv[1]).events.append(sys.argv[2])"


def test_killed_and_run_again_it_is_the_log_of_one_run(shop):
    count = 24_000
    rows = [[f"C{n}", f"K{n % 97}", "A-1", f"02.12.2025 10:{n % 60:02d}", "1", "1,00"] for n in range(count)]
    path = shop.catalogue / "viele.csv"
    own_tables.write(path, [HEAD, *rows], ";", "cp1252")
    shop.events.append([])

    def there():
        with opened(shop.opened()) as state:
            return state.last

    with subprocess.Popen([sys.executable, "-c", CHILD, shop.workspace, path]) as child:
        while child.poll() is None and not there():
            time.sleep(0.01)
        child.kill()
    assert (first := there()) > 0
    found = shop.events.append(path)
    assert (found.repeated, found.accepted) == (first, count - first)
    assert sorted(lines(shop)["transaction_id"]) == sorted(row[0] for row in rows)
