"""The page of a report on privacy, in English, German or Japanese: it shows what is in the file of facts, no more."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molar_indexes.privacy.certificate import Certificate
from molar_indexes.privacy.report.facts import Fact, ReportSection, Unit, collect
from molar_retrieval.errors import DataError, RequestError, SettingsError, suggestion
from molar_retrieval.reports.html import render_page
from molar_retrieval.reports.wording import LANGUAGES, PageWords
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.settings import MolarSettings

BLANKS = {
    "data": {"controller": "management", "purposes": "management", "legal_basis": "legal", "recipients": "management"},
    "copies": {"transfers": "legal", "backups": "technical"},
    "retention": {"periods": "legal"},
    "measures": {"other_measures": "technical"},
    "risks": {"necessity": "legal", "officer": "officer", "decision": "management"},
    "model": {"intended_use": "management", "contact": "management"},
    "ranking": {"sign_off": "management"},
}
"""By section, what is to be filled in, and by whom."""
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
_FILES = 200
"""Files that the page names; the certificate has all."""
PAGE, FACTS, FILLED = "report.html", "facts.json", "filled.toml"


def filled_in(path: Path, t: PageWords) -> dict[str, str]:
    """What people have written so far; the file is made where there is none, with a line for each blank.

    Raises:
        SettingsError: If it is no TOML, has another key, or something else than text.
    """
    names = [name for blanks in BLANKS.values() for name in blanks]
    if not path.exists():
        write_atomically(path, _empty(t))
    values = read_toml(path)
    for name, value in values.items():
        if name not in names:
            raise SettingsError(f"{path}: unknown key {name!r}", suggestion(name, names, "remove it"))
        if not isinstance(value, str):
            raise SettingsError(f"{path}: {name} is no text", "write it between quotes")
    return {name: values.get(name, "").strip() for name in names}


def _empty(t: PageWords) -> str:
    lines = [f"# {t('filled_is')}", ""]
    for blanks in BLANKS.values():
        for name, who in blanks.items():
            lines += [f"# {t(f'blank_{name}')} ({t('to_fill', who=t(f'who_{who}'))})", f'{name} = ""', ""]
    return "\n".join(lines)


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
        sections: Facts, as :func:`molar_indexes.privacy.report.facts.collect` gives them.
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


@dataclass(frozen=True)
class CertifiedLine:
    """Somebody, as the page tells it: what they asked for, when, their hashes, what was found before and after."""

    asked: str
    hashes: str
    before: str
    after: str


def certificate_page(certificate: Certificate, language: str) -> str:
    """The page; a RequestError if there are no words in that language."""
    words_in(language)
    t = PageWords(language, _PACKAGE, "certificate.toml")
    people = [
        CertifiedLine(
            t(f"asked_{one.kind}", day=_day(one.at, t)),
            ", ".join(one.hashes),
            t("not_looked") if one.before is None else t("found", **vars(one.before)),
            t("not_looked") if one.after is None else t("found", **vars(one.after)),
        )
        for one in certificate.people
    ]
    beyond = [
        t(f"beyond_{one.what}", name=one.name, count=t("unknown") if one.count is None else one.count)
        for one in certificate.beyond
    ]
    return render_page(
        _PACKAGE,
        "certificate.html.jinja",
        style="page.css",
        language=t.code,
        t=t,
        certificate=certificate,
        day=_day(certificate.made, t),
        people=people,
        beyond=beyond,
        files=certificate.files[:_FILES],
        more=max(len(certificate.files) - _FILES, 0),
    )


def _day(moment: str, t: PageWords) -> str:
    at = datetime.fromisoformat(moment)
    return f"{t.day(int(at.timestamp() * 1_000_000))}, {at:%H:%M} UTC"


@dataclass(frozen=True)
class PrivacyReport:
    """What was written.

    Attributes:
        page: The page.
        facts: The facts, each with its unit and source.
        filled: What people fill in; it is read, and never overwritten.
        blanks: What nobody has filled in yet.
    """

    page: Path
    facts: Path
    filled: Path
    blanks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "page": str(self.page),
            "facts": str(self.facts),
            "filled": str(self.filled),
            "blanks": list(self.blanks),
        }


def write_report(
    workspace: Workspace, settings: MolarSettings, catalogue: Path | None, out: Path, language: str
) -> PrivacyReport:
    """Gather the facts and write all three into a folder, which is made.

    Raises:
        RequestError: If the page does not speak the language.
        DataError: If the folder is a file, or in none.
        SettingsError: If what people have filled in is not as it should be.
    """
    t = words_in(language)
    if not out.parent.is_dir() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} cannot be written", "name a new folder in one that is there")
    out.mkdir(exist_ok=True)
    filled = filled_in(out / FILLED, t)
    sections = collect(workspace, settings, catalogue)
    made = datetime.now(UTC)
    told = {"made": made.isoformat(timespec="seconds")} | {name: one.to_dict() for name, one in sections.items()}
    write_atomically(out / FACTS, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / PAGE, report_page(sections, filled, int(made.timestamp()), t))
    blanks = tuple(name for name, words in filled.items() if not words)
    return PrivacyReport(out / PAGE, out / FACTS, out / FILLED, blanks)
