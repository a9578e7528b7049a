"""How pages, terminal and documents write names, numbers, amounts and dates, and the languages that pages speak."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from molar_retrieval.workspace.config_files import parse_toml

NONE = "–"
ALPHA = 0.05
_NAMES = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "diversity": "Intra-list diversity", "gini": "Gini index"}
LANGUAGES = {"en": "English", "de": "Deutsch", "ja": "日本語"}
_MARKS = {"en": (",", "."), "de": (".", ","), "ja": (",", ".")}
_DIGITS = 3  # that an amount has before it is rounded
_WHOLE = ("JPY", "KRW")
"""Currencies of which nobody writes hundredths."""


def metric(name: str) -> str:
    """A metric's name for people: ``ndcg@10`` is ``NDCG@10``."""
    base, at, cutoff = name.partition("@")
    return _NAMES.get(base, base.replace("_", " ").capitalize()) + at + cutoff


def short(name: str, most: int = 24) -> str:
    """A name that fits, with its end, by which variants of one model differ: ``content … no attributes)``."""
    if len(name) <= most:
        return name
    end = most * 5 // 8
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def cutoff(name: str) -> str:
    """The k of a metric's name; empty where it has none."""
    return name.partition("@")[2]


def fraction(value: float | None) -> str:
    """A metric's value with four decimals."""
    return NONE if value is None else f"{value:.4f}".replace("-", "−")


def number(value: float | None) -> str:
    """A value of unknown scale, four significant digits at most."""
    if value is None:
        return NONE
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{decimals}f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def percent(share: float, decimals: int = 0) -> str:
    """A share of a hundred."""
    return f"{share * 100:.{decimals}f}\N{NO-BREAK SPACE}%".replace("-", "−")


def p_value(p: float) -> str:
    """A probability as papers write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def plural(value: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """A time in the two units that matter."""
    if seconds < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit in {"bytes", "KB"} or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, JSON) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{prefix}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            pairs.append((f"{prefix}{key}", shown))
    return pairs


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
        return _read("molar_retrieval.reports", "words.toml") | _read(self.package, self.file)

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
