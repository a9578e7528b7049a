"""`molar experiment plan`: what people did is read from file and events, and told."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_eval.experiments.ab_test import Design
from molar_eval.experiments.covariates import end_of, outcomes, past_purchases
from molar_retrieval.data.event_store import DAY
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.errors import DataError
from molar_retrieval.workspace.artefacts import Workspace

ITEMS = [{"item_id": "a", "title": "x", "price": 4.0}, {"item_id": "b", "title": "y", "price": None}]


def shop_of(tmp_path, log, items=ITEMS):
    return molar.Shop.from_tables(items, log, folder=tmp_path / "shop")


def read(shop):
    with shop.bound() as workspace:
        prepare_catalogue(workspace.catalogue, workspace)
        return past_purchases(workspace)


def row(user, item, day, **more):
    return {"user_id": user, "item_id": item, "timestamp": f"2025-01-{day:02}T10:00:00Z", **more}


def event(kind, user, item, day, **more):
    return row(user, item, day, event=kind, event_id=f"{kind}{user}{item}{day}", **more)


def by_person(past):
    return dict(zip(*(column.tolist() for column in (past.person, past.value)), strict=True))


def test_a_purchase_brings_price_times_quantity_of_the_log_else_of_the_item(tmp_path):
    log = [
        row("u0", "a", 1, unit_price=3.0, qty=2),
        row("u1", "a", 1, unit_price=None, qty=5),
        row("u2", "b", 2, unit_price=7.0, qty=None),
        row("u2", "b", 2, unit_price=7.0, qty=None),  # the same line again
        row("u3", "b", 3, unit_price=-1.0, qty=1),
        row("u4", "unknown", 3, unit_price=9.0, qty=1),
        row("u0", "a", 4, unit_price=3.0, qty=-2),
    ]
    past = read(shop_of(tmp_path, log))
    assert by_person(past) == {0: 6, 1: 20, 2: 7, 3: 0}
    assert past.notes == ("1 rows of the log with a negative quantity are left out, not taken off",)


def test_events_are_counted_beside_the_file_once_and_not_where_taken_back(tmp_path):
    shop = shop_of(tmp_path, [row("u0", "b", 1), row("u1", "a", 2)])
    shop.events.append(
        [
            event("purchase", "u1", "a", 2, value=99.0),  # the file has it
            event("purchase", "u2", "a", 3, value=10.0, quantity=2),
            event("purchase", "u3", "a", 3, quantity=3),
            event("purchase", "u4", "a", 3),
            event("return", "u4", "a", 4),
            event("view", "u5", "b", 5),
            {**event("view", "", "b", 9), "user_id": None, "session_id": "s"},
        ]
    )
    past = read(shop)
    assert by_person(past) == {0: 0, 1: 4, 2: 10, 3: 12}
    assert past.visits_since * DAY == np.datetime64("2025-01-05", "us").astype(int)
    assert len(set(past.visitor.tolist())) == 6  # u1 to u5, and a session


def test_only_purchases_count_where_the_log_says_which_they_are(tmp_path):
    log = [row("u0", "a", 1, event="order"), row("u1", "a", 1, event="view")]
    assert by_person(read(shop_of(tmp_path, log))) == {0: 4}
    others = [row("u0", "a", 1, event="view"), row("u1", "a", 1, event="seen")]
    past = read(shop_of(tmp_path / "others", others))
    assert len(past.person) == 2
    assert "each of its rows counts as one" in past.notes[0]


def test_without_times_purchases_or_prices(tmp_path):
    plain = [{"item_id": "a", "title": "x"}]
    assert read(shop_of(tmp_path, [row("u", "a", 1)], plain)).value is None
    with pytest.raises(DataError, match="has no times"):
        read(shop_of(tmp_path / "untimed", [{"user_id": "u", "item_id": "a"}]))
    for name, log in (("none", None), ("unknown", [row("u", "z", 1)])):
        with pytest.raises(DataError, match="has no purchases of known items"):
            read(shop_of(tmp_path / name, log))


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    rng = np.random.default_rng(0)
    days = np.datetime64("2025-01-01T10:00:00") + np.arange(200).astype("timedelta64[D]")
    rows = [
        {"user_id": f"u{one}", "item_id": "ab"[one % 2], "timestamp": str(when), "price": 5.0}
        for one in range(400)
        for when in days[rng.random(200) < 0.02]
    ]
    return shop_of(tmp_path_factory.mktemp("sold"), rows)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_command_tells_what_the_library_plans_and_writes_nothing(sold, columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    where = [str(sold.catalogue), "-w", str(tmp_path / ".molar"), "--effects", "5,30", "--weeks", "2,4", "-q"]
    shown = CliRunner().invoke(app, ["experiment", "plan", *where])
    assert shown.exit_code == 0, shown.stderr
    told = json.loads(CliRunner().invoke(app, ["experiment", "plan", *where, "--json"]).stdout)
    assert not (tmp_path / ".molar").exists()
    for windows in told["metrics"].values():
        assert [window["weeks"] for window in windows] == [2, 4]
        for need in (need for window in windows for need in window["needed"]):
            marks = "*" * need["seen"], "*" * need["seen_with_cuped"]
            assert f"{need['plain']:,}{marks[0]} / {need['cuped']:,}{marks[1]}" in shown.stdout
    assert all(line in shown.stdout for line in [*told["verdicts"], *told["helps"]])
    assert "The log ends on 2025-07-19" in shown.stdout
    same = sold.experiments.plan(weeks=[2, 4], lifts=[0.05, 0.3])
    assert json.loads(json.dumps(same.to_dict())) == {k: v for k, v in told.items() if k not in ("verdicts", "helps")}


def test_a_workspace_of_another_catalogue_is_an_error(sold, tmp_path):
    other = shop_of(tmp_path, [row("u", "a", 1)])
    read(other)
    with pytest.raises(DataError, match="serves the catalogue"):
        molar.Shop(sold.catalogue, other.workspace).experiments.plan()
    with pytest.raises(DataError, match="the log knows buyers for 1 day,"):
        molar.Shop(None, other.workspace).experiments.plan()


def test_mistakes_of_a_command_line_are_errors(sold):
    for wrong, said in ((["--weeks", "2,x"], "--weeks is '2,x'"), (["--power", "0.01"], "power is 0.01")):
        done = CliRunner().invoke(app, ["experiment", "plan", str(sold.catalogue), *wrong])
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.realdata
def test_online_retail_takes_the_people_that_its_spend_takes(real_data, tmp_path):
    """A week before the log's end and with arms of the same variance, by another program: 2,623, 6,957, 4,237."""
    folder = real_data("online-retail")
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    past = past_purchases(workspace)
    seen = outcomes(past, 4, end_of(past) - 7, "buyers")
    assert seen.people == 3_232
    found = []
    for metric in ("conversion", "revenue"):
        baseline, explained = seen.baseline(metric)
        as_now = Design().people(baseline, 1e-6) * 1e-12 / 0.1**2  # an effect so small leaves the variance
        found += [as_now / 2, as_now / 2 * (1 - explained)]
    assert [found[0], found[2], found[3]] == pytest.approx([2_623, 6_957, 4_237], abs=1)
