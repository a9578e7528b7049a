"""What columns and files are called in several languages, as `vocabulary.toml` lists it."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path

from molar_retrieval.catalog.names import words

Names = Mapping[str, Mapping[str, tuple[int, int]]]
"""By folded name and language: the place of a name in its list, and the length of the list."""

_FILE = Path(__file__).with_name("vocabulary.toml")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_LATIN, _OTHER = 4, 2  # letters of a known name that says something inside of a longer one
_EXACT, _LAST = 1.0, 0.3  # what the first name of a list tells, and how much less the last one does
_AT_BORDER, _WORD = 0.65, 0.55  # what a name tells that begins or ends with a known one, or has it as a word
_VOTES, _MAJORITY = 3, 0.6  # columns that must be called in a language, and of all that are called in any


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A name without case, accents, blanks and punctuation; ä is ae."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_UMLAUTS)
    letters = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return "".join(c for c in letters if c.isalnum())


@cache
def _vocabulary() -> dict[str, Names]:
    read = tomllib.loads(_FILE.read_text("utf-8"))
    files = {f"files.{name}": lists for name, lists in read.pop("files").items()}
    del read["values"]
    return {role: _places(lists) for role, lists in (read | files).items()}


@cache
def _values(meaning: str) -> frozenset[str]:
    lists = tomllib.loads(_FILE.read_text("utf-8"))["values"][meaning]
    return frozenset(folded(value) for listed in lists.values() for value in listed)


def says(value: str, meaning: str) -> bool:
    """Whether a status says that an order is ``cancelled``, or ``completed`` or on its way to be."""
    return folded(value) in _values(meaning)


def _places(lists: Mapping[str, list[str]]) -> Names:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for language, listed in lists.items():
        for place, name in enumerate(listed):
            found.setdefault(folded(name), {}).setdefault(language, (place, len(listed)))
    return found


@lru_cache(maxsize=65_536)
def name_score(name: str, role: str) -> float:
    """How much a name says that a column is of a role, 0 … 1; 1: that is what it is called."""
    known, whole = _vocabulary()[role], folded(name)
    best = _EXACT * _rank(known[whole]) if whole in known else 0.0
    for word in words(name):
        if (one := folded(word)) in known and one != whole:
            best = max(best, _WORD * _rank(known[one]))
    for one, places in known.items():
        if len(one) >= (_LATIN if one.isascii() else _OTHER) and one != whole and _at_border(one, whole):
            best = max(best, _AT_BORDER * _rank(places) * (len(one) / len(whole)) ** 0.5)
    return best


def told_by_file(stem: str, role: str) -> float:
    """How much the name of a file says that it holds the items, interactions or users, 0 … 1."""
    bare = re.sub(r"[\d_.-]+$", "", stem)
    return max(name_score(stem, f"files.{role}"), name_score(bare, f"files.{role}") if bare else 0.0)


def language_of_names(names: Iterable[str]) -> str | None:
    """The language that most columns are called in, where at least three say one; None where they do not."""
    votes: dict[str, float] = {}
    total = 0
    for name in dict.fromkeys(names):
        spoken = {language for known in _vocabulary().values() for language in known.get(folded(name), ())}
        total += bool(spoken)
        for language in spoken:
            votes[language] = votes.get(language, 0) + 1 / len(spoken)
    best = max(votes, key=lambda language: votes[language], default=None)
    if best is None or votes[best] < max(_VOTES, _MAJORITY * total):
        return None
    return best


def _rank(places: Mapping[str, tuple[int, int]]) -> float:
    return max(1 - _LAST * place / count for place, count in places.values())


def _at_border(one: str, whole: str) -> bool:
    return whole.startswith(one) or whole.endswith(one)
