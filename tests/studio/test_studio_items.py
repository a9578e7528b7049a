"""The items of the studio: found, looked at, and why one is not shown."""

import re
import time

import pytest
from copies import copy_workspace
from studio_client import studio_client, words_of

import molar
from molar_indexes.recommender import Recommender


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("items") / ".molar")


@pytest.fixture(scope="module")
def studio(workspace):
    with studio_client(workspace) as client:
        yield client


@pytest.fixture(scope="module")
def shown(workspace, trained):
    """Somebody's long list without rules and draws."""
    with Recommender.open(workspace) as recommender:
        return recommender.query(trained.user, k=60, explore=False).items


def test_items_are_found_by_words_of_the_title_and_opened_by_their_id(studio, shown):
    word = shown[0].title.split()[-1]
    page = studio.get("/studio/items", q=word.upper())
    assert page.status_code == 200
    assert shown[0].item_id in page.text
    opened = studio.get("/studio/items", q=shown[0].item_id)
    assert (opened.status_code, opened.headers["location"]) == (303, f"/studio/items/{shown[0].item_id}")
    assert "Nothing has “zzz”" in words_of(studio.get("/studio/items", q="zzz"))


def test_why_somebody_is_not_shown_an_item(studio, shown, trained):
    page = studio.get(f"/studio/items/{shown[0].item_id}", who=trained.user)
    assert "at place 1 of the 10" in words_of(page)
    page = studio.get(f"/studio/items/{shown[40].item_id}", who=trained.user)
    assert "Others suit them better" in words_of(page)
    assert "Sum" in words_of(page)
    assert f"/studio/people/{trained.user}" in page.text
    page = studio.get(f"/studio/items/{shown[40].item_id}", who="never seen", anonymous=1)
    assert "Nothing is known of them" in words_of(page)


def test_what_is_sold_out_says_so_for_everybody(studio, shown, trained):
    item_id = shown[5].item_id
    answer = studio.client.patch(f"/v1/items/{item_id}", json={"attributes": {"stock": 0}})
    if answer.status_code == 422:  # the shop has no stock: it is withdrawn
        assert studio.client.delete(f"/v1/items/{item_id}").status_code == 200
    page = words_of(studio.get(f"/studio/items/{item_id}", who=trained.user))
    assert "Nobody is shown it now" in page
    assert "set " in page


def test_a_rule_is_not_blamed_for_what_would_be_far_behind_without_it(studio, trained, shown):
    quota = '[[rule]]\nat_most = 1\nper = "category"\n'
    assert studio.client.put("/v1/rules", json={"toml": quota}).status_code == 200
    said = [words_of(studio.get(f"/studio/items/SKU-{n:04}", who=trained.user)) for n in range(30, 60, 3)]
    assert studio.client.put("/v1/rules", json={"toml": ""}).status_code == 200
    places = [int(found[1]) for page in said if (found := re.search(r"without rules it would be at place (\d+)", page))]
    assert all(place <= 10 for place in places)
    assert any("Others suit them better" in page for page in said)


def test_a_missing_photo_is_told(studio, trained):
    there = {photo.stem for photo in (trained.shop / "images").iterdir()}
    without = next(f"SKU-{n:04}" for n in range(1, trained.items + 1) if f"SKU-{n:04}" not in there)
    assert "It has no photo" in words_of(studio.get(f"/studio/items/{without}"))
    assert "It has no photo" not in words_of(studio.get(f"/studio/items/{min(there)}"))


def test_neighbours_and_whom_it_reaches(studio, shown):
    item_id = shown[0].item_id
    page = studio.get("/studio/item/neighbours", item_id=item_id, part=True)
    assert page.text.count('class="card"') == 16
    page = words_of(studio.get("/studio/item/audience", item_id=item_id, part=True))
    assert re.search(r"It is in \d+ of 1\d\d lists: ", page)


def test_what_happened_with_it_is_counted_from_the_log(studio, shown):
    item_id = shown[1].item_id
    assert "says nothing of it" in words_of(studio.get("/studio/item/numbers", item_id=item_id, part=True))
    now = {"timestamp": int(time.time())}
    events = [
        {"event_id": f"e{n}", "event": "purchase", "user_id": f"buyer {n}", "item_id": item_id, "value": 10.5} | now
        for n in range(3)
    ]
    assert studio.client.post("/v1/events", json={"events": events}).status_code == 200
    page = words_of(studio.get("/studio/item/numbers", item_id=item_id, part=True))
    assert "Bought 3" in page
    assert "31.50" in page


def test_a_log_that_ended_long_ago_is_told_up_to_its_end(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    event = {"event_id": "old", "event": "purchase", "user_id": "u", "item_id": "SKU-0002", "value": 7.25}
    molar.Shop(None, workspace).events.append([event | {"timestamp": "2024-05-04T12:00:00Z"}])
    with studio_client(workspace) as studio:
        assert "Bought 1" in words_of(studio.get("/studio/item/numbers", item_id="SKU-0002", part=True))
        figures = words_of(studio.get("/studio/overview/figures", part=True))
    assert "The event log ends on 2024-05-04" in figures
    assert "7.25" in figures


def test_hostile_titles_and_ids_are_words(studio, shown):
    item_id, hostile = shown[7].item_id, "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    assert studio.client.patch(f"/v1/items/{item_id}", json={"attributes": {"title": hostile}}).status_code == 200
    for page in (
        studio.get(f"/studio/items/{item_id}", who=hostile),
        studio.get("/studio/items", q=hostile),
        studio.get(f"/studio/items/{hostile}"),
        studio.get("/studio/item/audience", item_id=hostile, part=True),
        studio.get("/studio/item/numbers", item_id=hostile, part=True),
    ):
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text


@pytest.mark.parametrize("name", ["", "/neighbours"])
def test_an_item_that_is_not_there(studio, name):
    page = studio.get("/studio/items/NO-SUCH") if not name else studio.get("/studio/item/neighbours", item_id="NO-SUCH")
    assert page.status_code == 404
    assert "NO-SUCH" in words_of(page)


def test_an_item_whose_title_was_taken_away_has_a_page(studio, shown):
    item_id = shown[7].item_id
    assert studio.client.put(f"/v1/items/{item_id}", json={"attributes": {"active": False}}).status_code == 200
    page = studio.get(f"/studio/items/{item_id}")
    assert (page.status_code, item_id in words_of(page)) == (200, True)
