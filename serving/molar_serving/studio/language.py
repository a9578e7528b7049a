"""The studio's words in English, German and Japanese, from ``words/NAME.toml``; numbers as they are written there."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from molar_retrieval.reports.wording import LANGUAGES, Wording

COOKIE = "molar_studio_language"


@dataclass(frozen=True)
class Language(Wording):
    """One language of the studio."""

    @property
    def words(self) -> Mapping[str, Mapping[str, Any]]:
        """By ``FILE.KEY``."""
        return _words()

    def part(self, name: str) -> str:
        """What a part of a score is called; its name where nobody has found a word for it."""
        known: str = _words().get(f"score.{name}", {}).get(self.code, name)
        return known


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
