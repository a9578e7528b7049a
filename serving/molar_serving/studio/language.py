"""The studio's words in English, German and Japanese, from ``words/NAME.toml``; numbers as they are written there."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = {"en": "English", "de": "Deutsch", "ja": "日本語"}
COOKIE = "molar_studio_language"
_MARKS = {"en": (",", "."), "de": (".", ","), "ja": (",", ".")}


@dataclass(frozen=True)
class Language:
    """One language of the studio.

    Attributes:
        code: As browsers name it.
    """

    code: str

    def __call__(self, name: str, /, **values: Any) -> str:
        """What ``FILE.KEY`` means here, with values in their places; one of two forms by the number ``n``.

        KeyError if there is no such word: the tests ask for all.
        """
        text = _words()[name][self.code]
        if not isinstance(text, str):
            text = text["one" if values["n"] == 1 else "other"]
        told: str = text.format_map({key: self.number(value) for key, value in values.items()})
        return told

    def part(self, name: str) -> str:
        """What a part of a score is called; its name where nobody has found a word for it."""
        known: str = _words().get(f"score.{name}", {}).get(self.code, name)
        return known

    def number(self, value: Any, decimals: int | None = None) -> str:
        """A number as it is written here; other values as they are."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        decimals = (0 if isinstance(value, int) else 2) if decimals is None else decimals
        thousands, point = _MARKS[self.code]
        text = f"{value:,.{decimals}f}".replace("-", "−")
        return text.translate({ord(","): thousands, ord("."): point})

    def percent(self, share: float, decimals: int = 0) -> str:
        """A share of a hundred."""
        return f"{self.number(100 * float(share), decimals)}\N{NARROW NO-BREAK SPACE}%"


def preferred(cookie: str | None, accepted: str) -> Language:
    """The language somebody chose, or that their browser prefers of those there are (``Accept-Language``)."""
    if cookie in LANGUAGES:
        return Language(cookie)
    weighted = []
    for place, one in enumerate(accepted.split(",")):
        tag, _, weight = one.strip().partition(";q=")
        code = tag.lower().partition("-")[0]
        if code in LANGUAGES:
            weighted.append((-_weight(weight), place, code))
    return Language(min(weighted)[2] if weighted else "en")


def _weight(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0


@cache
def _words() -> Mapping[str, Mapping[str, Any]]:
    words: dict[str, Mapping[str, Any]] = {}
    for file in (resources.files("molar_serving.studio") / "words").iterdir():
        stem = file.name.removesuffix(".toml")
        words |= {f"{stem}.{key}": entry for key, entry in tomllib.loads(file.read_text("utf-8")).items()}
    return words
