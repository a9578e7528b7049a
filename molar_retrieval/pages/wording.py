"""Words of a page in the languages that it speaks, and numbers, amounts and dates as they are written there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from molar_retrieval.toml import parse_toml

LANGUAGES = {"en": "English", "de": "Deutsch", "ja": "日本語"}
_MARKS = {"en": (",", "."), "de": (".", ","), "ja": (",", ".")}
_DIGITS = 3  # that an amount has before it is rounded
_WHOLE = ("JPY", "KRW")
"""Currencies of which nobody writes hundredths."""


@dataclass(frozen=True)
class Wording(ABC):
    """One language; what its words are, a subclass says.

    Attributes:
        code: As browsers name it.
    """

    code: str

    @property
    @abstractmethod
    def words(self) -> Mapping[str, Mapping[str, Any]]:
        """Texts by name and language; of a text that a number changes, the forms ``one`` and ``other``."""

    def __call__(self, name: str, /, **values: Any) -> str:
        """What a name means here, with values in their places; one of two forms by the number ``n``.

        KeyError if there is no such word: the tests ask for all.
        """
        text = self.words[name][self.code]
        if not isinstance(text, str):
            text = text["one" if values["n"] == 1 else "other"]
        told: str = text.format_map({key: self.number(value) for key, value in values.items()})
        return told

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

    def change(self, share: float, decimals: int = 1) -> str:
        """A share by which something is more or less, with its sign."""
        return ("+" if share > 0 else "") + self.percent(share, decimals)


@dataclass(frozen=True)
class PageWords(Wording):
    """One language of a page that is sent as a file, with its dates and amounts.

    Attributes:
        package: Where the words lie.
        file: In which file, by name and language.
    """

    package: str
    file: str

    @property
    def words(self) -> Mapping[str, Mapping[str, Any]]:
        """Those of the file, and those that pages share."""
        return _read("molar_retrieval.pages", "words.toml") | _read(self.package, self.file)

    def day(self, moment: int) -> str:
        """The day of a moment, microseconds since 1970, in UTC."""
        at = datetime.fromtimestamp(moment / 1e6, UTC)
        return self("date", day=str(at.day), month=self.words["months"][self.code][at.month - 1], year=str(at.year))

    def amount(self, value: float, currency: str = "") -> str:
        """So much money, rounded to three digits; with hundredths below ten, where there are any."""
        size = abs(value)
        if size >= 10**_DIGITS:
            scale = 10 ** (len(str(int(size))) - _DIGITS)
            size = float(round(size / scale) * scale)
        told = self.number(size, 2 if 0 < size < 10 and currency not in _WHOLE else 0)
        named: str = self.words["currencies"][self.code].get(currency, "{n} {currency}")
        return ("−" if value < 0 else "") + named.format(n=told, currency=currency).strip()


@cache
def _read(package: str, file: str) -> dict[str, Any]:
    return parse_toml((resources.files(package) / file).read_text("utf-8"), file)
