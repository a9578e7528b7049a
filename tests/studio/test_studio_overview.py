"""The overview and the events as they come: what they say, and what they do not claim."""

import logging
import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest
from copies import copy_workspace
from starlette.testclient import TestClient
from studio_client import StudioClient, studio_client, words_of

from molar.shop import Shop
from molar_eval.kpi.by_day import ArmFigures, DayFigures, daily
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.app import application
from molar_serving.observability import KeptWarnings
from molar_serving.service import Service
from molar_serving.studio import status
from molar_serving.studio.status import Trade, trade

HOSTILE = "<script>alert(1)</script>"
NOW = int(time.time())


def event(kind: str, name: str, **more):
    return {"event": kind, "event_id": name, "user_id": "u0001", "timestamp": NOW - 60, "item_id": "SKU-0001", **more}


def append(workspace: Path, *events) -> None:
    with closing(EventLog(Workspace(workspace))) as log:
        log.append(enumerate(events))


@pytest.fixture(scope="module")
def new(trained, tmp_path_factory):
    """A shop without events, made before work was written down."""
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("new") / ".molar")
    shutil.rmtree(workspace / "work")
    with studio_client(workspace) as client:
        yield client


@pytest.fixture(scope="module")
def busy(trained, tmp_path_factory):
    """A shop of which much can be told, some of it hostile."""
    folder = tmp_path_factory.mktemp("busy")
    workspace = copy_workspace(trained.workspace, folder / ".molar")
    settings = folder / "molar.toml"
    settings.write_text('[costs]\nmachine_hour = 36\ncurrency = "EUR"\n', "utf-8")
    append(
        workspace,
        event("impression", "1", request_id="r1", list_id=HOSTILE, items=["SKU-0001", "SKU-0002"]),
        event("purchase", "2", request_id="r1", value=20.0),
        event("purchase", "3", value=5.0, user_id=HOSTILE),
        event("item_upsert", "4", user_id=None, item_id="NEW-1", data={"title": HOSTILE}),
        event("veiw", "5"),
        event("view", "6", timestamp=HOSTILE),
    )
    with recorded(Workspace(workspace), "update") as told:
        told.outcome, told.steps = f"updated {HOSTILE}", {"catalogue": 0.5}
    with pytest.raises(ZeroDivisionError), recorded(Workspace(workspace), "align"):
        raise ZeroDivisionError(HOSTILE)
    kept = KeptWarnings(workspace)
    kept.emit(logging.LogRecord("molar.serving", logging.ERROR, "", 0, HOSTILE, None, None))
    kept.close()
    with studio_client(workspace, settings) as client:
        yield client


def test_a_new_shop_is_told_what_to_do_first(new):
    page = new.get("/studio")
    words = words_of(page)
    assert page.status_code == 200
    assert "All is well" in words
    assert "molar events append orders.csv" in words
    assert "Cannot tell yet" in words  # what the last night took
    assert 'id="figures"' not in page.text
    figures = words_of(new.get("/studio/overview/figures", part=True))
    assert figures == "Nothing happened in the last four weeks, as far as the event log knows."


def test_without_a_generation_it_says_so_and_what_to_do(tmp_path):
    (tmp_path / "shop").mkdir()
    Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    app = application(Service(Shop(None, tmp_path / ".molar")))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        words = words_of(StudioClient(client).get("/studio"))
        assert StudioClient(client).get("/studio/events").status_code == 200
        assert "Nothing happened" in words_of(StudioClient(client).get("/studio/overview/figures", part=True))
    assert "No lists are answered" in words
    assert "molar embed shop/" in words
    assert "All is well" not in words


def test_the_overview_says_how_it_is_and_asks_for_the_figures(busy):
    page = busy.get("/studio")
    words = words_of(page)
    assert page.status_code == 200
    assert 'hx-get="/studio/overview/figures"' in page.text
    assert "The last molar align failed: ZeroDivisionError" in words
    assert "The server told of one error in the last 24 hours." in words
    assert "All is well" not in words
    assert "NEW-1" in words
    assert "EUR" in words
    assert "36.00 EUR an hour" in words


def test_figures_tell_what_is_attributed_and_what_cannot_be_told(busy):
    part = busy.get("/studio/overview/figures", part=True)
    words = words_of(part)
    assert "<html" not in part.text
    assert "Purchases from lists 50.0" in words
    assert "Revenue 25.00" in words
    assert "Cannot tell yet: it takes people who see no lists." in words
    assert 'title="2 / 100"' in part.text  # items that were shown at all
    whole = words_of(busy.get("/studio/overview/figures"))
    assert "How fresh are answers?" in whole
    assert "Revenue 25.00" in whole


def test_events_are_shown_with_those_refused_and_the_work(busy):
    page = busy.get("/studio/events")
    words = words_of(page)
    assert page.status_code == 200
    assert "the kind 'veiw' is not known" in words
    assert "did you mean 'view'" in words or "view" in words
    assert "updated" in words
    assert "Generations that answer" in words
    assert "SKU-0002" in words
    only = words_of(busy.get("/studio/events", kind="purchase"))
    assert "SKU-0002" not in only
    assert "from a list" in only
    stopped = busy.get("/studio/events", live="0").text
    assert "every 2s" in page.text
    assert "every 2s" not in stopped


def test_what_came_is_sent_once(busy):
    page = busy.get("/studio/events").text
    address = page.partition('hx-get="')[2].partition('"')[0].replace("&amp;", "&")
    assert address.startswith("/studio/events/arrived?")
    assert busy.get(address, part=True).status_code == 204
    part = busy.get("/studio/events/arrived", part=True)
    assert part.status_code == 200
    assert "<html" not in part.text


def test_the_share_of_lists_by_day(busy):
    part = busy.get("/studio/events/attributed", part=True)
    assert "50" in words_of(part)
    assert busy.get("/studio/events/attributed").headers["location"] == "/studio/overview/figures"


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_what_is_hostile_is_shown_as_it_is_in_every_language(busy, language):
    busy.language = language
    try:
        for path in ("/studio", "/studio/overview/figures", "/studio/events", "/studio/events?kind=purchase"):
            page = busy.get(path)
            assert page.status_code == 200
            assert HOSTILE not in page.text
            assert "Undefined" not in page.text
    finally:
        busy.language = "en"


def test_a_holdout_is_compared_and_chance_is_not_told_as_an_effect():
    def of(**arms: ArmFigures) -> Trade:
        day = DayFigures(20_000, people=1, arms=arms)
        return Trade((day,), day, day, None, None)

    assert of(molar=ArmFigures(100, 9)).holdout is None
    assert of(holdout=ArmFigures(100, 9)).holdout is None
    few = of(molar=ArmFigures(100, 11), holdout=ArmFigures(100, 9)).holdout
    many = of(molar=ArmFigures(9_000, 990), other=ArmFigures(1_000, 110), holdout=ArmFigures(10_000, 900)).holdout
    assert few is not None
    assert many is not None
    assert few.gap is not None
    assert few.gap.mean == pytest.approx(0.02)
    assert (few.tells, many.tells) == (False, True)
    assert many.others.whole == 10_000


def test_figures_of_a_week_stand_beside_those_of_the_week_before(trained, tmp_path):
    workspace = Workspace(copy_workspace(trained.workspace, tmp_path / ".molar"))
    day = NOW // 86_400
    append(workspace.root, *(event("view", str(n), timestamp=NOW - n * 86_400) for n in range(20)))
    found = trade(workspace, day)
    assert len(found.days) == status.SHOWN
    assert (found.week.people, found.before.people) == (7, 7)
    assert found.times[-1] == day * 86_400
    assert not found.has_values
    assert [one.figures for one in daily(workspace, 7, day)] == list(found.days[-7:])
