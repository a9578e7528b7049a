"""The page of a report on privacy, in English, German or Japanese: it shows what is in the file of facts, no more."""

from collections.abc import Mapping
from dataclasses import dataclass

from molar_indexes.privacy.report.facts import Fact, ReportSection, Unit
from molar_indexes.privacy.report.filled import BLANKS
from molar_retrieval.errors import RequestError, suggestion
from molar_retrieval.reports.html import render_page
from molar_retrieval.reports.wording import LANGUAGES, PageWords

_PACKAGE = "molar_indexes.privacy.report"
_MEGA, _HOUR = 1_000_000, 3600
_NOTHING = {"days": "unlimited", "text": "none"}
"""What it means that a setting of a unit is not set."""
_CHAPTERS = {
    "record": ("data", "copies", "readers", "retention", "measures"),
    "assessment": ("risks", "leakage"),
    "card": ("model",),
    "parameters": ("ranking",),
    "bill": ("costs",),
}


@dataclass(frozen=True)
class FactLine:
    """A fact as the page tells it: its key in the file of facts, label, value and source; what to do where unknown."""

    key: str
    label: str
    value: str
    source: str
    remedy: str


@dataclass(frozen=True)
class BlankLine:
    """Something that people fill in; without words it is to be filled in by somebody."""

    label: str
    words: str
    to_fill: str


@dataclass(frozen=True)
class SectionTold:
    """A section: its name in the file of facts, facts, blanks."""

    name: str
    facts: list[FactLine]
    blanks: list[BlankLine]


def words_in(language: str) -> PageWords:
    """The words of the page; a RequestError if there are none in that language."""
    if language not in LANGUAGES:
        words = f"the report speaks no {language!r}"
        raise RequestError(words, suggestion(language, LANGUAGES, f"choose one of {', '.join(LANGUAGES)}"))
    return PageWords(language, _PACKAGE, "page.toml")


def report_page(sections: Mapping[str, ReportSection], filled: Mapping[str, str], made: int, t: PageWords) -> str:
    """The page; the same values give the same page.

    Args:
        sections: Facts, as :func:`molar_indexes.privacy.report.collect.collect` gives them.
        filled: What people have written, by blank.
        made: When the facts were gathered, in seconds since 1970.
        t: The words, of :func:`words_in`.
    """
    currency = sections["costs"].facts.get("currency")
    money = "" if currency is None else str(currency.value)
    told = {
        chapter: [_section(name, sections[name], filled, t, money) for name in names]
        for chapter, names in _CHAPTERS.items()
    }
    return render_page(
        _PACKAGE, "page.html.jinja", style="page.css", language=t.code, t=t, chapters=told, day=t.day(made * 1_000_000)
    )


def _section(name: str, section: ReportSection, filled: Mapping[str, str], t: PageWords, currency: str) -> SectionTold:
    facts = [_line(name, own, fact, t, currency) for own, fact in section.facts.items()]
    blanks = [
        BlankLine(t(f"blank_{blank}"), filled[blank], t("to_fill", who=t(f"who_{who}")))
        for blank, who in BLANKS.get(name, {}).items()
    ]
    return SectionTold(name, facts, blanks)


def _line(section: str, name: str, fact: Fact, t: PageWords, currency: str) -> FactLine:
    remedy = t(f"how_{name}") if fact.value is None and f"how_{name}" in t.words else ""
    return FactLine(f"{section}.{name}", _label(section, name, t), _value(fact, t, currency), fact.source, remedy)


def _label(section: str, name: str, t: PageWords) -> str:
    """The words for a name; where there are none for all of it, those for what stands before the ``/``."""
    stem, _, own = name.partition("/")
    whole = f"{section}_{stem}_{own}"
    return t(whole) if own and whole in t.words else t(f"{section}_{stem}", name=own)


def _value(fact: Fact, t: PageWords, currency: str) -> str:
    value = fact.value
    if value is None:
        return t(_NOTHING.get(fact.unit, "unknown"))
    if isinstance(value, bool):
        return t("yes" if value else "no")
    if isinstance(value, list):
        return ", ".join(value) or t("none")
    return (value or t("none")) if isinstance(value, str) else _number(value, fact.unit, t, currency)


def _number(value: float, unit: Unit, t: PageWords, currency: str) -> str:
    match unit:
        case "share":
            return t.percent(value, 1)
        case "score":
            return t.number(value, 4)
        case "moment":
            return t.day(int(value) * 1_000_000)
        case "bytes":
            return t("megabytes", n=t.number(value / _MEGA, 1))
        case "seconds":
            return t("hours", n=t.number(value / _HOUR, 4 if value < _HOUR else 2))
        case "money":
            return f"{t.number(value, 4 if value < 1 else 2)} {currency}".strip()
    whole = t.number(value, 0 if float(value).is_integer() else 2)
    return t(unit, n=whole) if unit in ("minutes", "days", "watts", "watt_hours") else whole
