"""Why a stage of an experiment began, as it is on record in English, told in the languages of its page."""

import re
from functools import cache
from importlib import resources

from molar_retrieval.reports.wording import PageWords
from molar_retrieval.workspace.config_files import parse_toml

_PACKAGE, _FILE = "molar_eval.experiments", "reasons.toml"
_KEPT = re.compile(r"(?:^|; )(?P<arm>control|treatment) is kept$")
_FIELDS = {"metric": "clicks|carts|conversion|revenue", "percent": r"\d+%"}
_NUMBER = r"[\d,]*\d(?:\.\d+)?"


def reason_in(words: PageWords, recorded: str) -> str:
    """A reason in the language of some words; what a person wrote, and what is not known there, is quoted."""
    kept = _KEPT.search(recorded)
    rest, told = recorded if kept is None else recorded[: kept.start()], []
    while rest:
        name, found = _first(rest)
        if found is None:
            told.append(words("why_quoted", why=rest))
            break
        told.append(_said(words, name, found))
        rest = rest[found.end() :]
    if kept is not None:
        told.append(_said(words, f"kept_{kept['arm']}", kept))
    return " ".join(told)


def _first(text: str) -> tuple[str, re.Match[str] | None]:
    """The reason with which a text begins, by its name."""
    for name, pattern in _patterns().items():
        if (found := pattern.match(text)) is not None:
            return name, found
    return "", None


def _said(words: PageWords, name: str, found: re.Match[str]) -> str:
    if words.code == "en":
        text = found[0].strip(" ;")
        return text[0].upper() + text[1:] + ("" if text.endswith(":") else ".")
    values: dict[str, int | float | str] = {}
    for field, text in found.groupdict().items():
        if field == "metric":
            values[field] = words(f"metric_{text}")
        elif field == "percent":
            values[field] = words.percent(int(text[:-1]) / 100)
        elif field != "arm":
            number = text.replace(",", "")
            values[field] = float(number) if "." in number else int(number)
    return _reasons(words.code)(name, **values)


@cache
def _reasons(code: str) -> PageWords:
    return PageWords(code, _PACKAGE, _FILE)


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """By name, what begins with a reason and a blank or the end after it."""
    found = {}
    text = (resources.files(_PACKAGE) / _FILE).read_text("utf-8")
    for name, entry in parse_toml(text, _FILE).items():
        pattern = re.sub(r"\\\{(\w+)\\\}", _field, re.escape(entry["en"])).replace(r"\(s\)", "s?")
        found[name] = re.compile(f"{pattern}(?: |$)")
    return found


def _field(place: re.Match[str]) -> str:
    return f"(?P<{place[1]}>{_FIELDS.get(place[1], _NUMBER)})"
