"""The pages as Chromium lays them out: nothing cut off on a phone or a desk, and one can move about without script."""

import re
from types import SimpleNamespace

import made_up_report as made_up
import pytest
from browser import Browser, installed

from molar_eval.report.page import render as render_report
from molar_retrieval.quality.check import CheckReport, Content, outlook
from molar_retrieval.quality.findings import Finding, Found, finding_kinds
from molar_retrieval.quality.rendering import render as render_check
from molar_retrieval.reports.html import Pictures

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium on the path")
LONG = "a_very_long_name_that_has_no_place_to_break_" * 3
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
BOXES = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
CUT = """
[...document.querySelectorAll('body *')]
  .filter(one => !one.closest('.scroll, .contents ul, svg, .skip'))
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => one.tagName + ' ' + one.className)
"""


@pytest.fixture(scope="module")
def browser():
    with Browser(1400, 900) as opened:
        yield opened


def checked(words):
    """A check of data with ten findings of every kind."""
    about = {"item_id": words, "user_id": words, "file": f"{words}.csv", "column": words}
    found = [
        Found(kind, 10, tuple(Finding(kind, words, row=12_044 + n, amount=0.5, **about) for n in range(10)))
        for kind in finding_kinds().values()
    ]
    return CheckReport(
        words,
        100,
        found=tuple(found),
        content=Content(100, 60, 90, 55, 5),
        outlook=outlook(Content(100, 60, 90, 55, 5), None),
        log=SimpleNamespace(interactions=4778, rows=4873, lines=lambda: [words]),
        left_out=(words,),
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder, pictures = tmp_path_factory.mktemp("pages"), Pictures(tmp_path_factory.mktemp("photos"))
    models = [made_up.model(LONG, "ours", 0.19), made_up.model("EASE", "baseline", 0.15)]
    odd = made_up.split(LONG, models=models, title=LONG, warning=LONG, settings={LONG: LONG})
    few = [made_up.model(slices={}), made_up.model("EASE", "baseline", 0.15, slices={})]
    many = [made_up.split(f"test {n}", models=few, title=f"What is asked by test {n}") for n in range(1, 13)]
    texts = {
        "report": render_report(made_up.report(), made_up.examples(), pictures),
        "odd report": render_report(made_up.report([odd], title=LONG, notes=[LONG]), made_up.examples(), pictures),
        "many tests": render_report(made_up.report(many, tables=[]), None, pictures),
        "check": render_check(checked("chair"), pictures),
        "odd check": render_check(checked(LONG), pictures),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return folder


@pytest.fixture
def opened(browser, pages):
    def open_page(name, width):
        browser.resize(width, 900)
        browser.go((pages / f"{name}.html").as_uri())
        browser.wait("document.readyState == 'complete'")
        return browser

    return open_page


@pytest.mark.parametrize("width", [375, 1400])
@pytest.mark.parametrize("name", ["report", "odd report", "check", "odd check"])
def test_nothing_stands_beyond_the_edge(opened, name, width):
    page = opened(name, width)
    page.run(OPEN)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(CUT) == []


@pytest.mark.parametrize("name", ["report", "check"])
def test_no_table_is_cut_off_at_1400_pixels(opened, name):
    page = opened(name, 1400)
    page.run(OPEN)
    assert page.run(f"{BOXES}.map(box => box.ariaLabel)") == []


@pytest.mark.parametrize("name", ["report", "check"])
def test_a_table_that_is_wider_than_a_phone_says_so_and_can_be_scrolled_by_keyboard(opened, name):
    page = opened(name, 375)
    page.run(OPEN)
    wide, narrow = (
        f"{BOXES}",
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth <= box.clientWidth)",
    )
    hint = "getComputedStyle(box, '::before').content"
    page.wait(f"{wide}.every(box => {hint}.includes('scroll sideways'))")
    assert page.run(f"{narrow}.every(box => {hint} == 'none')")
    told = page.run(f"{wide}.map(box => [box.tabIndex, box.role, box.ariaLabel])")
    assert len(told) > 3 or name == "check"
    assert all((order, role) == (0, "group") and label for order, role, label in told)


@pytest.mark.parametrize(
    ("name", "width"), [("report", 375), ("many tests", 1000), ("many tests", 1400), ("check", 1400)]
)
def test_contents_stay_in_sight_and_lead_to_headings_that_they_do_not_cover(opened, name, width):
    page = opened(name, width)
    links = page.run("[...document.querySelectorAll('.contents a')].map(link => link.hash)")
    assert len(links) > 3
    for link in links[1:]:
        page.run(f"document.querySelector('.contents a[href=\"{link}\"]').click()")
        page.wait("scrollY > 0")
        bar, top = page.run(
            "[document.querySelector('.contents').getBoundingClientRect(),"
            f" document.querySelector('{link}').getBoundingClientRect()].map((box, at) => at ? box.top : box.bottom)"
        )
        assert page.run("document.querySelector('.contents').getBoundingClientRect().top") == 0
        assert top >= bar - 1, link


def test_the_first_key_offers_to_skip_the_contents(opened):
    page = opened("check", 1400)
    page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Skip to the content"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    page.wait("location.hash == '#main'")
    assert not [one for one in page.complaints if re.search("error|refused", str(one), re.IGNORECASE)]
