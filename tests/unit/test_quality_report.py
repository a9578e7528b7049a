"""Findings collected, what can be expected, the page."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from molar_retrieval.quality import findings, rendering
from molar_retrieval.quality.check import CheckReport, Content, Excerpt, outlook
from molar_retrieval.quality.findings import (
    SCHEMA,
    Finding,
    FindingCollector,
    FindingKind,
    Found,
    Severity,
    finding,
    finding_kinds,
)
from molar_retrieval.quality.rendering import render
from molar_retrieval.reports.html import Pictures, marked

BAD = FindingKind("photo.bad", Severity.ERROR, "Bad", "mend it")
ODD = FindingKind("text.odd", Severity.NOTE, "Odd", "look at it")


def test_all_are_counted_the_worst_are_kept_and_every_one_is_written(tmp_path):
    path = tmp_path / "new" / "fix.parquet"
    with FindingCollector(path, examples=3) as collector:
        collector.take(Finding(ODD, f"n{n}", item_id=f"i{n}", amount=float(n % 7)) for n in range(50))
        collector.take([Finding(BAD, "first", row=2), Finding(BAD, "second \ud800", others=("a", "b"))])
    assert collector.counts == {"text.odd": 50, "photo.bad": 2}
    assert [found.kind.name for found in collector.found()] == ["photo.bad", "text.odd"]
    assert [one.detail for one in collector.examples("text.odd")] == ["n6", "n13", "n20"]
    assert [one.detail for one in collector.examples("photo.bad")] == ["first", "second \ud800"]
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 52
    last = table.slice(51).to_pylist()[0]
    assert (last["kind"], last["severity"], last["others"], last["remedy"]) == (
        "photo.bad",
        "error",
        ["a", "b"],
        "mend it",
    )


def test_a_fix_list_without_findings_is_a_table_without_rows(tmp_path):
    with FindingCollector(tmp_path / "fix.parquet"):
        pass
    assert pq.read_table(tmp_path / "fix.parquet").num_rows == 0


def test_kinds_have_names_of_their_own_and_say_what_to_do():
    for name, kind in finding_kinds().items():
        assert kind.name == name
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind.name)
        assert kind.title[0].isupper()
        assert kind.remedy


def test_the_kinds_that_the_check_names_are_those_that_are_listed():
    source = "".join(path.read_text("utf-8") for path in Path(findings.__file__).parent.rglob("*.py"))
    areas = "|".join({name.partition(".")[0] for name in finding_kinds()})
    assert set(re.findall(rf'"((?:{areas})\.[a-z_]+)"', source)) == set(finding_kinds())


def test_of_a_pass_over_many_rows_all_are_counted_and_some_are_made():
    found, made = FindingCollector(limit=3), []
    found.each("log.burst", range(50), lambda row: made.append(row) or finding("log.burst", f"n{row}", amount=row))
    found.add("log.burst", "one more")
    assert found.counts == {"log.burst": 51}
    assert made == [0, 1, 2]
    assert [one.detail for one in found.examples("log.burst")] == ["n2", "n1", "n0"]
    found.each("log.gap", [], made.append)
    assert [kind.kind.name for kind in found.found()] == ["log.burst"]


CONTENT = Content(items=100, photos=60, texts=90, both=55, nothing=5)


def test_without_a_log_that_is_what_is_said():
    words = " ".join(outlook(CONTENT, None))
    assert "60 of 100 items (60%) have a usable photo, 90 (90%) have words" in words
    assert "35 are known by their words alone; 5 by their photo alone; of 5 nothing can be embedded" in words
    assert "no log" in words


def report(tmp_path, findings):
    found = tuple(Found(kind, len(own), tuple(own)) for kind, own in findings.items())
    return CheckReport(
        catalogue="shop & <co>",
        items=100,
        unusable=(),
        found=found,
        content=CONTENT,
        outlook=outlook(CONTENT, None),
        log=None,
        pairs=None,
        left_out=("this and that",),
        excerpts={"i1": Excerpt("<script>alert(1)</script>", "a.jpg")},
    )


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.jpg")
    seen = report(tmp_path, {BAD: [Finding(BAD, "<b>x</b>", item_id="i1", amount=2.5)], ODD: [Finding(ODD, "odd")]})
    page = render(seen, Pictures(tmp_path))
    assert "<script>alert(1)" not in page
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert not re.search(r"url\(|@import|https?://", page)
    assert page.count("<tr><td") == 2
    assert render(seen, Pictures(tmp_path)) == page


EMAIL, TIME = (finding_kinds()[name] for name in ("personal.email", "log.bad_time"))


@pytest.mark.parametrize(
    ("found", "head", "said"),
    [
        ({}, "can be used", ""),
        ({ODD: 3, EMAIL: 2}, "can be used", ""),
        (
            {BAD: 1},
            "can be used, but not all of it",
            "What the error is about is left out; used are 100 items, 60 photos",
        ),
        ({BAD: 100, TIME: 4}, "can be used, but not all of it", "What the 104 errors are about is left out"),
    ],
    ids=["nothing", "no error", "one", "104"],
)
def test_errors_never_stand_beside_can_be_used_without_a_word_between(tmp_path, found, head, said):
    """Terminal and page say what the errors cost."""
    seen = replace(
        report(tmp_path, {}),
        found=tuple(Found(kind, n, (Finding(kind, "seen"),)) for kind, n in found.items()),
        log=SimpleNamespace(interactions=40, rows=52, lines=lambda: ["a line"]),
    )
    assert rendering.verdict(seen).startswith(f"shop & <co> {head}: 100 items; ")
    told = rendering.consequence(seen)
    assert said in told
    assert bool(told) is bool(said)
    assert ("40 of 52 rows of the log" in told) is bool(said)
    page = render(seen, Pictures(tmp_path))
    assert f"<h1>shop &amp; &lt;co&gt; {head}</h1>" in page
    assert not told or f"<p>{told}</p>" in page


def test_what_cannot_be_used_at_all_is_said_and_nothing_is_promised(tmp_path):
    seen = replace(report(tmp_path, {BAD: [Finding(BAD, "x")]}), unusable=("no item has words",))
    assert rendering.verdict(seen) == "shop & <co> cannot be used: no item has words (1 error, 0 warnings, 0 notes)"
    assert rendering.consequence(seen) == ""
    assert "cannot be used</h1>" in render(seen, Pictures(tmp_path))


def test_faults_of_the_log_have_file_and_row_whatever_photos_their_items_have(tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.jpg")
    where = {"item_id": "i1", "file": "log.csv", "row": 12044}
    seen = report(tmp_path, {TIME: [Finding(TIME, "soon", **where)], BAD: [Finding(BAD, "dark", **where)]})
    page = render(seen, Pictures(tmp_path))
    log, photo = (
        page[page.index(f'id="{name}"') :].partition("</article>")[0] for name in ("log.bad_time", "photo.bad")
    )
    assert '<span class="where">log.csv, row 12044</span><code>i1</code><span>soon</span>' in log
    assert "<img" not in log
    assert "<img" in photo
    assert '<span class="where">log.csv, row 12044</span>' in photo
    assert "Rows count from 1, without the header" in page
    assert rendering.example(seen.found[0].examples[0]) == "i1 (log.csv, row 12044): soon"
    nameless = Finding(TIME, "soon", file="log.csv", row=3)
    assert rendering.example(nameless) == "log.csv, row 3: soon"
    command = f"the catalogue is German: molar embed {'folder/' * 40} --model builtin-multilingual"
    assert rendering.example(Finding(TIME, command)) == command


def test_commands_in_words_are_code_and_nothing_else_becomes_one():
    assert marked("try `molar embed <x>` & go") == "try <code>molar embed &lt;x&gt;</code> &amp; go"
    assert marked("a `lonely <b>") == "a `lonely &lt;b&gt;"


def test_a_report_is_plain_data(tmp_path):
    plain = report(tmp_path, {BAD: [Finding(BAD, "x", item_id="i1", amount=float("inf"))]}).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["counts"] == {"error": 1, "warning": 0, "note": 0}
    assert again["found"][0]["examples"] == [{"detail": "x", "item_id": "i1"}]
    assert again["usable"] is True
