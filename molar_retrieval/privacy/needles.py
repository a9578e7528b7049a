"""What a person is recognised by in a file: names, a history, vectors."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from molar_retrieval.privacy.windows import ByteWindows

_PEOPLE = re.compile(r"user|person|people|customer|client|session|visitor|member|unit|account", re.IGNORECASE)
_WORD = re.compile(r"[0-9A-Za-z_]")
_WIDEST = 4  # bytes of a character
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_SHORTEST, _SHORTEST_NUMBER = 4, 7


class Match(NamedTuple):
    """Something of the person: what, and whether nothing else can be meant."""

    what: str
    certain: bool = True


@dataclass(frozen=True)
class Name:
    """One word by which a person is known.

    Attributes:
        text: The word.
        what: What kind of word it is, as a report calls it.
        vague: Whether other things are called so too: it is short, or an item's id. It counts only where names of
            people stand; elsewhere it is a doubt.
        longer: Names of other people that contain it.
    """

    text: str
    what: str
    vague: bool = False
    longer: Sequence[str] = ()

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """How it may be written: as it is, escaped for JSON, for an address or for HTML."""
        escaped = json.dumps(self.text), json.dumps(self.text, ensure_ascii=False)
        written = (self.text, *(one[1:-1] for one in escaped), quote(self.text, safe=""), quote_plus(self.text))
        return tuple(dict.fromkeys([*written, html.escape(self.text)]))

    @cached_property
    def word(self) -> re.Pattern[str]:
        """It as a word of its own."""
        return re.compile("|".join(_bounded(one) for one in self.variants))

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """It as bytes: UTF-8 in all variants, UTF-16 and UTF-32 in both orders."""
        wide = [self.text.encode(code, "surrogatepass") for code in _WIDE]
        return (*(one.encode("utf-8", "surrogatepass") for one in self.variants), *wide)


def _bounded(text: str) -> str:
    before = r"(?<![0-9A-Za-z_])" if _WORD.match(text[0]) else ""
    after = r"(?![0-9A-Za-z_])" if _WORD.match(text[-1]) else ""
    return before + re.escape(text) + after


def is_vague(text: str) -> bool:
    """Whether so short a word may be anything."""
    return len(text) < (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST)


def of_people(name: str) -> bool:
    """Whether a column or a key of this name holds names of people."""
    return bool(_PEOPLE.search(name))


class CasesOfTest(NamedTuple):
    """Which cases of a test are somebody's: the test's name in file names, how many cases it has, which are theirs."""

    test: str
    cases: int
    theirs: Sequence[int]


@dataclass(frozen=True)
class Needles:
    """What one person is recognised by.

    Attributes:
        names: Words: the id, its key, sessions, the point id of a server.
        windows: Bytes that are theirs alone: stretches of their history as item rows, of their vectors, point ids.
        sequences: Stretches of their history as item ids, :data:`LENGTH` each.
        rows: Their row in the ``users.parquet`` of a folder.
        tested: Test cases of theirs, by the folder of an evaluation.
    """

    names: Sequence[Name]
    windows: ByteWindows = field(default_factory=lambda: ByteWindows({}))
    sequences: frozenset[tuple[str, ...]] = frozenset()
    rows: Mapping[Path, int] = field(default_factory=dict)
    tested: Mapping[Path, Sequence[CasesOfTest]] = field(default_factory=dict)

    def text(self, text: str, *, people: bool = False) -> Iterator[Match]:
        """What a text says of them; ``people``: whether it stands where names of people stand."""
        for name in self.names:
            if any(one in text for one in name.variants) and name.word.search(text):
                yield Match(name.what, people or not name.vague)

    def number(self, value: int) -> Iterator[Match]:
        """The same of a number that stands where names of people stand."""
        said = str(value)
        yield from (Match(name.what) for name in self.names if name.text == said)

    def data(self, data: bytes, *, words: bool = False) -> Iterator[tuple[int, int, Match]]:
        """Where their names are in bytes, and how long: with ``words`` as words of their own only, as in a text."""
        for name in self.names:
            for raw in name.raw:
                for at in _places(data, raw):
                    match = _judged(name, data, at, raw, words)
                    if match is not None:
                        yield at, len(raw), match

    def in_order(self, items: Sequence[str]) -> Iterator[int]:
        """Where a stretch of their history begins in a list of item ids."""
        if not self.sequences:
            return
        for at in range(len(items) - LENGTH + 1):
            if tuple(items[at : at + LENGTH]) in self.sequences:
                yield at

    @property
    def around(self) -> int:
        """Bytes beside a name by which it is told from a part of another one."""
        return max([_WIDEST, *(_WIDEST * len(one) for name in self.names for one in name.longer)])

    @property
    def overlap(self) -> int:
        """Bytes that two blocks must have in common, so that nothing is missed where they meet."""
        return max([self.windows.longest, *(len(raw) + 2 * self.around for name in self.names for raw in name.raw)])


LENGTH = 4
"""Items that follow each other: a stretch of a history that one person alone has."""


def _places(data: bytes, raw: bytes) -> Iterator[int]:
    at = data.find(raw)
    while at >= 0:
        yield at
        at = data.find(raw, at + 1)


def _judged(name: Name, data: bytes, at: int, raw: bytes, words: bool) -> Match | None:
    """What a name in bytes is: theirs, a doubt, or a part of another word."""
    end = at + len(raw)
    before, after = data[max(0, at - 1) : at], data[end : end + 1]
    if words:
        inside = (_letter(before) and _letter(raw[:1])) or (_letter(after) and _letter(raw[-1:]))
        return None if inside else Match(name.what, not name.vague)
    if any(_around(data, at, end, raw, one) for one in name.longer):
        return None
    digits = name.text.isdigit() and (before.isdigit() or after.isdigit())
    return Match(name.what, not (name.vague or digits))


def _letter(one: bytes) -> bool:
    return one.isalnum() or one == b"_"


def _around(data: bytes, at: int, end: int, raw: bytes, longer: str) -> bool:
    """Whether a name in bytes is a part of somebody else's longer one."""
    for code in ("utf-8", *_WIDE):
        whole = longer.encode(code, "surrogatepass")
        for inside in _places(whole, raw):
            start = at - inside
            if start >= 0 and data[start : start + len(whole)] == whole and start + len(whole) >= end:
                return True
    return False
