"""The screen of the data: problems that are ticked off and come back with other items, and reports on their own."""

import json
from types import SimpleNamespace

import pytest
from copies import copy_workspace
from studio_client import studio_of_roles, words_of

from molar.findings import LastCheck, last_check, remember
from molar.reports import evaluation_reports, remember_folder
from molar.shop import Shop
from molar_retrieval.errors import DataError
from molar_retrieval.quality.findings import FindingCollector
from molar_serving.audit import changes

HOSTILE = "<script>alert(1)</script>"


def checked(workspace, items=("SKU-0001", "SKU-0002"), why=HOSTILE):
    """A check that found photos that cannot be read, and a wrong row."""
    with FindingCollector() as collector:
        for item in items:
            collector.add("photo.unreadable", why, item_id=item, file="a.jpg")
        collector.add("log.unreadable", "a row", file="interactions.csv", row=7)
    found = collector.found()
    told = {"items": 100, "unusable": [], "found": [one.to_dict() for one in found]}
    remember(workspace, SimpleNamespace(to_dict=lambda: told))
    return {one.kind.name: one.key for one in found}


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("data") / ".molar")
    (workspace / "check.html").unlink(missing_ok=True)
    return workspace


@pytest.fixture(scope="module")
def people(workspace):
    with studio_of_roles(workspace) as people:
        yield people


def test_nothing_was_checked_or_evaluated_yet(people, workspace):
    words = words_of(people["viewer"].get("/studio/data"))
    assert "molar check" in words
    assert "molar evaluate" in words
    assert people["viewer"].get("/studio/data/check").status_code == 404
    assert last_check(workspace) is None


def test_a_problem_is_ticked_off_and_is_open_again_with_other_items(people, workspace):
    keys = checked(workspace)
    assert checked(workspace, ("SKU-0002", "SKU-0001"), "other words") == keys  # the same items, in another order
    checked(workspace)
    page = people["viewer"].get("/studio/data")
    assert HOSTILE not in page.text
    assert "interactions.csv, row 7" in words_of(page)
    assert "Tick off" not in words_of(page)
    photo = f"/studio/data/findings/{keys['photo.unreadable']}"
    assert people["viewer"].post(photo, {"note": "no"}).status_code == 403
    assert people["merchandiser"].post(photo, {"note": "sent to <b>studio</b>"}).status_code == 303
    assert keys["photo.unreadable"] not in people["viewer"].get("/studio/data").text
    page = people["viewer"].get("/studio/data", show="ticked")
    assert "by merchandiser" in words_of(page)
    assert "sent to <b>studio</b>" in words_of(page)
    found = checked(workspace, ("SKU-0001", "SKU-0003"))
    assert found["photo.unreadable"] != keys["photo.unreadable"]
    assert found["log.unreadable"] == keys["log.unreadable"]
    assert found["photo.unreadable"] in people["viewer"].get("/studio/data").text
    assert people["merchandiser"].post(photo, {"note": ""}).status_code == 404  # that one is gone


def test_ticking_off_is_undone_on_the_page_of_changes(people, workspace):
    key = checked(workspace)["log.unreadable"]
    merchandiser = people["merchandiser"]

    def ticked():
        (found,) = [one.ticked for one in last_check(workspace).findings if one.key == key]
        return found and found.note

    assert merchandiser.post(f"/studio/data/findings/{key}", {"note": "first"}).status_code == 303
    first = changes(workspace)[0].request
    assert merchandiser.post(f"/studio/changes/{first}/undo").status_code == 303
    assert ticked() is None
    assert merchandiser.post(f"/studio/data/findings/{key}", {"note": "second"}).status_code == 303
    second = changes(workspace)[0].request
    assert merchandiser.post(f"/studio/data/findings/{key}", {"open": "yes"}).status_code == 303
    assert merchandiser.post(f"/studio/changes/{second}/undo").status_code == 409  # it was opened again since
    assert merchandiser.post(f"/studio/changes/{changes(workspace)[1].request}/undo").status_code == 303
    assert ticked() == "second"
    assert "ticked off or opened again" in words_of(people["viewer"].get("/studio/changes"))


def test_reports_of_the_workspace_are_listed_and_opened_on_their_own(people, workspace, tmp_path):
    for folder, title in (
        (workspace / "evaluation" / "runs" / "quick-1", HOSTILE),
        (tmp_path / "else & where", "second"),
    ):
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"title": title, "suite": "quick"}), "utf-8")
        (folder / "report.html").write_text(f"<p>{title.strip('<>')}</p>", "utf-8")
        remember_folder(workspace, folder)
        remember_folder(workspace, folder)
    (workspace / "evaluation" / "runs" / "unfinished").mkdir()
    linked = workspace / "evaluation" / "runs" / "linked"  # out of the workspace, as a record of it may lead
    linked.symlink_to(tmp_path / "else & where")
    assert {one.title for one in evaluation_reports(workspace)} == {HOSTILE}
    page = people["viewer"].get("/studio/data")
    assert HOSTILE not in page.text
    for one in evaluation_reports(workspace):
        opened = people["viewer"].get(f"/studio/data/reports/{one.name}")
        assert opened.content == one.page.read_bytes()
        policy = opened.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts; default-src 'none'")
        assert "same-origin" not in policy
    assert people["nobody"].get("/studio/data/reports/quick-1").status_code == 303
    assert people["viewer"].get("/studio/data/reports/..%2F..%2Fworkspace.json").status_code == 404
    (workspace / "check.html").write_text("<p>checked</p>", "utf-8")
    assert people["viewer"].get("/studio/data/check").text == "<p>checked</p>"


def test_what_is_kept_and_damaged_is_said(tmp_path):
    checked(tmp_path)
    assert isinstance(last_check(tmp_path), LastCheck)
    path = tmp_path / "findings" / "last.json"
    for text in ("{", '{"made": 1}'):
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match="damaged"):
            last_check(tmp_path)


def test_a_check_is_kept_in_the_workspace_wherever_its_page_goes(workspace, tmp_path):
    report = Shop(None, workspace).check(photos=False, page=tmp_path / "pages" / "check.html")
    kept = last_check(workspace)
    assert [(one.kind, one.count) for one in kept.findings] == [(one.kind.name, one.count) for one in report.found]
    assert kept.items == report.items == 100
    assert len({one.key for one in kept.findings}) == len(kept.findings) > 0
    assert (tmp_path / "pages" / "check.html").read_bytes() == (workspace / "check.html").read_bytes()
