"""HTML pages."""

import base64
import hashlib
from html.parser import HTMLParser
from types import SimpleNamespace

import made_up_report as made_up
import pytest
from PIL import Image

from molar_eval.report.page import render as render_report
from molar_retrieval.quality.check import CheckReport, Excerpt
from molar_retrieval.quality.findings import Finding, FindingCollector, FindingKind, Found, Severity
from molar_retrieval.quality.rendering import render as render_check
from molar_retrieval.reports.html import Pictures

EVIL = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x dur=1s>",
    "</title></head><body onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "<meta http-equiv=refresh content='0;url=http://attacker.example'>",
    "<base href=http://attacker.example>",
    "<form action=http://attacker.example><input name=x></form>",
    "<link rel=stylesheet href=http://attacker.example>",
    "<!--", "-->", "]]>", "{{ 7 * 7 }}", "{% raw %}", "&lt;script&gt;", "\u2028alert(1)//", "<iframe srcdoc=x>",
]  # fmt: skip
ALL = "".join(EVIL)
WEIRD = FindingKind("photo.weird", Severity.WARNING, "Weird", "look at it")
BOT = FindingKind("log.burst", Severity.WARNING, "Bots", "leave them out")


class Page(HTMLParser):
    """A page taken apart as a browser does."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.raw:
            self.raw[self._open].append(data)

    def policy(self) -> dict[str, str]:
        (content,) = [a["content"] for tag, a in self.elements if a.get("http-equiv") == "Content-Security-Policy"]
        return {rule.split(" ", 1)[0]: rule.split(" ", 1)[1] for rule in content.split("; ")}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.jpg")
    return tmp_path


def checked(words: str, users: list[str]) -> CheckReport:
    """A check that saw these words wherever a page shows words of the data."""
    collector = FindingCollector()
    bots = [Finding(BOT, words, user_id=user, file="log.csv", row=7) for user in users]
    kinds = [
        Found(WEIRD, 1, (Finding(WEIRD, words, item_id=words, file=words, column=words, others=("other",)),)),
        Found(BOT, len(users), tuple(collector.anonymised(one) for one in bots)),
    ]
    log = SimpleNamespace(lines=lambda: [words])
    excerpts = {words: Excerpt(words, "a.jpg"), "other": Excerpt(words, "a.jpg")}
    return CheckReport(
        words, 3, (words,), tuple(kinds), None, (words,), log, None, (words,), excerpts
    )  # fmt: skip


def reported(words: str, folder):
    models = [made_up.model(words, "ours", 0.19), made_up.model(words + "2", "baseline", 0.15)]
    users = [
        user.model_copy(update={"user_id": words, "split": words, "targets": [made_up.item(words)]})
        for user in made_up.examples(("a.jpg",)).users
    ]
    made = made_up.report([]).made.model_copy(update={"command": words, "device": words, "versions": {words: words}})
    split = made_up.split(name=words, title=words, warning=words, models=models, against=words + "2")
    report = made_up.report([split], title=words, description=words, notes=[words], settings={words: words}, made=made)
    return render_report(report, made_up.ReportExamples(catalogue=words, users=users), Pictures(folder))


def pages(words: str, folder) -> dict[str, str]:
    return {
        "report": reported(words, folder),
        "check": render_check(checked(words, [words, words + "2"]), Pictures(folder)),
    }


@pytest.mark.parametrize("name", ["report", "check"])
def test_pages_may_load_nothing_and_run_only_what_they_came_with(folder, name):
    """Pages carry a policy: nothing is loaded or sent; only their own style sheet and script, by hash, count."""
    page = Page(pages("plain", folder)[name])
    rules = page.policy()
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert set(rules) <= {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    for kind in ("style", "script"):
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.raw[kind]]
        assert rules.get(f"{kind}-src", "").split() == [f"'sha256-{one}'" for one in hashes]
    first = [(tag, "charset" in a or "http-equiv" in a) for tag, a in page.elements[:4]]
    assert first == [("html", False), ("head", False), ("meta", True), ("meta", True)]  # before what they govern


@pytest.mark.parametrize("words", [*EVIL, ALL])
def test_hostile_words_stay_words(folder, words):
    """Scripts, quotes, links and tags in titles, ids and attributes are shown as words, on both pages."""
    plain = pages("plain", folder)
    for name, text in pages(words, folder).items():
        page, usual = Page(text), Page(plain[name])
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in usual.elements]
        assert page.raw == usual.raw
        for tag, attributes in page.elements:
            assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcdoc", "action")]
            for key in ("src", "href", "xlink:href"):
                assert (attributes.get(key) or "#").startswith(("#", "data:image/jpeg;base64,")), tag


def test_the_check_page_names_no_user(folder):
    """The page of a check can be passed on: it has no user ids, only numbers."""
    users = ["ann.miller@example.org", "+49 170 1234567", "u-1928", "<b>u</b>"]
    report = checked("words", [*users, users[0]])
    text = render_check(report, Pictures(folder))
    for user in users:
        assert user not in text
        assert user.replace("<", "&lt;").replace(">", "&gt;") not in text
        assert user[:6] not in text
    for n in range(1, len(users) + 1):
        assert f"user {n}" in text
    assert f"user {len(users) + 1}" not in text
    assert "People are only numbered, here and in the fix list" in text
