"""The screens of generations: what another one would change, making it live, going back, and who may."""

import time
from uuid import uuid4

import pytest
from studio_client import studio_of_roles, words_of
from updates import Days


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    """A shop with a generation that waits: somebody bought something, and an item has a hostile title."""
    days = Days(trained, tmp_path_factory.mktemp("studio"))
    user = days.shop.recommender().generation.users.between(0, 1)[0].user_id
    bought = days.shop.query(user, k=1).items[0].item_id
    now, titled = time.time(), [item.item_id for item in days.shop.query(user, k=20).items]

    def append(*events):
        told = ({"event_id": uuid4().hex, "timestamp": now, **event} for event in events)
        assert days.shop.events.append(told).accepted == len(events)

    append({"event": "purchase", "user_id": user, "item_id": bought})
    assert days.shop.update(stage=True).staged is not None
    append(*({"event": "item_upsert", "item_id": one, "data": {"title": "<b>bold</b> & co"}} for one in titled))
    append({"event": "item_withdraw", "item_id": titled[-1]})
    return days


@pytest.fixture(scope="module")
def people(days):
    with studio_of_roles(days.shop.workspace, days.folder.parent / "molar.toml") as people:
        yield people


@pytest.fixture(scope="module")
def names(days):
    """The live generation, and the one that waits."""
    return [one.name for one in days.shop.generations()]


def test_generations_are_listed_and_the_one_that_waits_is_named(people, names):
    page = people["viewer"].get("/studio/generations")
    assert page.status_code == 200
    words = words_of(page)
    assert all(name in words for name in names)
    assert "waits to be made live" in words
    assert "Make it live" not in words
    assert f"compare?a={names[0]}&amp;b={names[1]}" in page.text


def test_a_comparison_is_asked_for_by_the_page_and_kept(people, names):
    viewer, asked = people["viewer"], {"a": names[0], "b": names[1]}
    page = viewer.get("/studio/generations/compare", **asked)
    assert "are made twice and compared" in words_of(page)
    part = viewer.get("/studio/generations/compare", part=True, **asked)
    words = words_of(part)
    assert "<html" not in part.text
    assert "Cannot tell yet: only 0 people took something" in words
    assert "people get another first ten" in words
    assert "Which part did it" in words
    assert "<b>bold</b>" not in part.text
    assert "<b>bold</b> & co" in words
    again = viewer.get("/studio/generations/compare", **asked)
    assert "people get another first ten" in words_of(again)
    assert again.text.count("<time") == part.text.count("<time") == 1
    assert words_of(again).count("Compared in") == 1


@pytest.mark.parametrize("language", ["de", "ja"])
def test_it_speaks_other_languages(people, names, language):
    viewer = people["viewer"]
    viewer.language = language
    try:
        assert viewer.get("/studio/generations").status_code == 200
        page = viewer.get("/studio/generations/compare", a=names[0], b=names[1], now=1)
        assert page.status_code == 200
        assert "Is the second one better" not in page.text
    finally:
        viewer.language = "en"


def test_what_is_not_there_is_told(people):
    page = people["viewer"].get("/studio/generations/compare", a="<i>nothing", b="else")
    assert page.status_code == 404
    assert "<i>nothing" not in page.text
    assert people["admin"].post("/studio/generations/nothing/activate").status_code == 404


def test_only_an_admin_makes_one_live_and_goes_back(days, people, names):
    for role in ("viewer", "merchandiser", "nobody"):
        answer = people[role].post(f"/studio/generations/{names[1]}/activate")
        assert answer.status_code in (303, 403)
        assert days.workspace["generations"].pointer == names[0]
    for name in (names[1], names[0]):
        assert people["admin"].post(f"/studio/generations/{name}/activate").headers["location"] == "/studio/generations"
        assert days.workspace["generations"].pointer == name
    assert "Make it live" in words_of(people["admin"].get("/studio/generations"))
