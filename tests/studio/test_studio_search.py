"""The search playground of the studio."""

import pytest
from copies import copy_workspace
from PIL import Image
from studio_client import studio_client, words_of

from molar_indexes.recommender import Recommender

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def studio(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("search") / ".molar")
    with studio_client(workspace) as client:
        yield client


def test_the_form_alone_asks_nothing(studio):
    page = studio.get("/studio/search")
    assert page.status_code == 200
    assert 'id="found"' not in page.text


def test_words_find_items_and_stand_beside_another_setting(studio, trained):
    page = studio.get("/studio/search", text="red umbrella", who=trained.user, beside="nobody")
    said = words_of(page)
    assert page.status_code == 200
    assert "As it is" in said
    assert "For nobody in particular" in said
    assert "Suits the person" in said
    assert page.text.count('class="card"') == 40
    assert "higher" in said or "only here" in said


def test_a_photo_is_what_is_searched_by(studio, trained, monkeypatch):
    asked = []

    def search(self, **question):  # the vectors of photos are the matter of tests/web/test_web_search.py
        asked.append(question)
        return self.popular(question["k"])

    monkeypatch.setattr(Recommender, "search", search)
    photo = next(iter(sorted((trained.shop / "images").iterdir())))
    page = studio.post("/studio/search", {"text": ""}, files={"photo": (photo.name, photo.read_bytes(), "image/jpeg")})
    assert page.status_code == 200
    assert "not kept" in words_of(page)
    with Image.open(photo) as sent:
        assert asked[0]["image"].size == sent.size
    assert asked[0]["text"] is None


def test_what_is_wrong_is_said_beside_what_was_typed(studio):
    page = studio.get("/studio/search", text="lamp", where="price <<")
    assert page.status_code == 200
    assert 'value="price &lt;&lt;"' in page.text
    assert 'class="notice bad"' in page.text
    page = studio.get("/studio/search", similar="NO-SUCH")
    assert "NO-SUCH" in words_of(page)
    page = studio.post("/studio/search", {}, files={"photo": ("x.jpg", b"no photo", "image/jpeg")})
    assert "no photo to search by" in words_of(page)
    assert studio.get("/studio/search", text="lamp", beside="no-such-generation").status_code == 404


def test_hostile_words_are_words(studio):
    for name in ("text", "similar", "where", "who", "beside"):
        page = studio.get("/studio/search", **{"text": "lamp", name: HOSTILE})
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
