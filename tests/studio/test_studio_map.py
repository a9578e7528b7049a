"""The map of the studio: made beside the server, its points, what is chosen on it, where the two views disagree."""

import time
from concurrent.futures import Future

import numpy as np
import pytest
from copies import copy_workspace
from studio_client import studio_of_roles, words_of

from molar_indexes.item_map.store import item_map
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import DiskError
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.studio import map_making


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return Workspace.open(copy_workspace(trained.workspace, tmp_path_factory.mktemp("map") / ".molar"))


@pytest.fixture(scope="module")
def people(workspace):
    """Somebody of each role, before there is a map."""
    with studio_of_roles(workspace.root) as clients:
        yield clients


@pytest.fixture(scope="module")
def studio(people):
    """A viewer, once the map is made, as the page makes it: beside the server, when somebody asks."""
    viewer, end = people["viewer"], time.monotonic() + 120
    page = viewer.get("/studio/map")
    assert "The map is being made" in words_of(page)
    assert viewer.get("/studio/map/points").status_code == 409
    while "HX-Refresh" not in (state := viewer.get("/studio/map/state", part=True)).headers:
        assert state.status_code == 200
        assert time.monotonic() < end
        time.sleep(0.1)
    return viewer


@pytest.fixture(scope="module")
def found(workspace, studio):
    return item_map(workspace, workspace["generations"].require()[0].name)


def test_the_page_says_where_the_views_disagree_and_why(studio, found):
    page = studio.get("/studio/map")
    assert page.status_code == 200
    said = words_of(page)
    assert "Where they disagree" in said
    assert "Colours: category" in said
    for kind in ("photo", "category", "hidden", "apart"):
        assert f'data-test="kind-{kind}"' in page.text
    assert len(found.found) > 0
    assert page.text.count('class="sentences"') == len(found.found)
    for one in found.found:
        for witness in one.evidence:
            assert str(witness.numbers.get("people", "")) in said


@pytest.mark.parametrize("language", ["de", "ja"])
def test_evidence_is_told_in_other_languages(studio, language):
    studio.language = language
    try:
        page = words_of(studio.get("/studio/map"))
    finally:
        studio.language = "en"
    assert {"de": "Wo sie sich widersprechen", "ja": "食い違う商品"}[language] in page
    assert {"de": "seine", "ja": "選んだ"}[language] in page


def test_points_are_where_the_map_has_them(studio, found):
    content = studio.get("/studio/map/points").content
    n = len(found)
    assert len(content) == 11 * n
    assert np.array_equal(np.frombuffer(content[: 8 * n], "<u2").reshape(n, 4), found.places)
    assert np.array_equal(np.frombuffer(content[8 * n : 10 * n], "<u2"), found.category + 1)
    marks = np.frombuffer(content[10 * n :], np.uint8)
    assert np.array_equal(marks & 1, found.placed)
    assert {int(found.rows[place]) for place in np.flatnonzero(marks >= 4)} == {one.row for one in found.found}


def test_chosen_items_are_listed(studio, found):
    page = studio.post("/studio/map/items", {"numbers": "3,1,4,1"}, part=True)
    assert "3 items are chosen" in words_of(page)
    assert page.text.count('class="card"') == 3
    name = found.names[0]
    page = studio.post("/studio/map/items", {"category": name}, part=True)
    assert f"{(found.category == 0).sum()} items are of {name}" in words_of(page)
    assert "No item is chosen" in words_of(studio.post("/studio/map/items", {"numbers": ""}, part=True))
    assert studio.post("/studio/map/items", {"numbers": "1,x"}, part=True).status_code == 422
    assert studio.post("/studio/map/items", {"category": "no such"}, part=True).status_code == 404
    everything = ",".join(map(str, range(len(found) + 50)))
    assert f"{len(found)} items are chosen" in words_of(studio.post("/studio/map/items", {"numbers": everything}))


def test_one_item_and_one_that_is_not_there(studio):
    assert studio.get("/studio/map/item", number=0).text.count('class="card"') == 1
    assert studio.get("/studio/map/item", number=10**6).status_code == 404
    assert studio.get("/studio/map/item", number="-1").status_code == 422
    assert studio.get("/studio/map", kind="<script>").status_code == 404
    assert "<script>" not in studio.get("/studio/map", kind="<script>").text.split("</head>")[1]


def test_a_kind_is_listed_page_by_page(studio, found):
    kind = found.found[0].kind
    page = studio.get("/studio/map", kind=kind, **{"from": 0})
    assert page.text.count("data-test=") == 1
    assert "All kinds" in words_of(page)


def test_hostile_titles_are_words(workspace, studio, found):
    hostile, row = "<img src=x onerror=alert(1)>", found.found[0].row
    item_id = studio.get("/studio/map/item", number=int(np.searchsorted(found.rows, row))).text
    item_id = item_id.split("<code>")[1].split("</code>")[0]
    log, now = EventLog(workspace), int(time.time())
    change = {"event_id": "t", "timestamp": now, "event": "item_upsert", "item_id": item_id, "data": {"title": hostile}}
    assert log.append(enumerate([change])).accepted == 1
    log.close()
    page = studio.get("/studio/map")
    assert "<img src=x" not in page.text
    assert "&lt;img src=x" in page.text


def test_a_map_that_cannot_be_made_is_told_and_tried_again(workspace, monkeypatch):
    tried = []

    class Failing:
        def __init__(self, *_):
            tried.append(self)

        def submit(self, *_):
            future = Future()
            future.set_exception(DiskError("the disk is full", "make room"))
            return future

        def shutdown(self, wait):
            assert not wait

        def end(self):
            tried.clear()

    monkeypatch.setattr(map_making, "Workers", Failing)
    making = map_making.MapMaking(workspace)
    assert making.of("20260101-000000-none") is None
    for _ in range(2):
        with pytest.raises(DiskError, match="full"):
            making.of("20260101-000000-none")
    assert len(tried) == 1
    monkeypatch.setattr(map_making, "_AGAIN", 0.0)
    assert making.of("20260101-000000-none") is None
    assert len(tried) == 2
    making.close()
    assert not tried


def test_nobody_sees_the_map_without_a_session(people):
    for path in ("", "/points", "/item", "/state"):
        assert people["nobody"].get(f"/studio/map{path}").headers["location"].startswith("/studio/session")
    answer = people["nobody"].post("/studio/map/items", {"numbers": "1"})
    assert answer.status_code == 303
