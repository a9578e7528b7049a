"""Which column of a table is what: by its name in several languages, by its values, and by those of other tables."""

import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.column_names import words
from molar_retrieval.data.inference.dialect import SampledColumn, SampledTable
from molar_retrieval.data.schema import Stem
from molar_retrieval.errors import SettingsError, suggestion

Names = Mapping[str, Mapping[str, tuple[int, int]]]
"""By folded name and language: the place of a name in its list, and the length of the list."""

_FILE = Path(__file__).with_name("vocabulary.toml")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_LATIN, _OTHER = 4, 2  # letters of a known name that says something inside of a longer one
_LAST = 0.3  # how much less the last name of a list tells than the first one
_AT_BORDER, _WORD = 0.65, 0.55  # what a name tells that begins or ends with a known one, or has it as a word
_VOTES, _MAJORITY = 3, 0.6  # columns that must be called in a language, and of all that are called in any


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A name without case, accents, blanks and punctuation; ä is ae."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_UMLAUTS)
    letters = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return "".join(c for c in letters if c.isalnum())


@cache
def _vocabulary() -> tuple[dict[str, Names], dict[str, frozenset[str]]]:
    """Names of columns by role, and the values of a status by their meaning, all folded."""
    read = tomllib.loads(_FILE.read_text("utf-8"))
    meanings = read.pop("values")
    values = {key: frozenset(folded(one) for own in lists.values() for one in own) for key, lists in meanings.items()}
    names: dict[str, dict[str, dict[str, tuple[int, int]]]] = {role: {} for role in read}
    for role, lists in read.items():
        for language, own in lists.items():
            for place, name in enumerate(own):
                names[role].setdefault(folded(name), {}).setdefault(language, (place, len(own)))
    return dict(names), values


def says(value: str, meaning: str) -> bool:
    """Whether a status says that an order is ``cancelled``, or ``completed`` or on its way to be."""
    return folded(value) in _vocabulary()[1][meaning]


@lru_cache(maxsize=65_536)
def name_score(name: str, role: str) -> float:
    """How much a name says that a column is of a role, 0 … 1; 1: that is what it is called."""
    known, whole = _vocabulary()[0][role], folded(name)

    def rank(one: str) -> float:
        return max(1 - _LAST * place / count for place, count in known[one].values())

    scores = [rank(whole)] if whole in known else [0.0]
    scores += [_WORD * rank(one) for word in words(name) if (one := folded(word)) in known and one != whole]
    for one in known:
        at_border = one != whole and (whole.startswith(one) or whole.endswith(one))
        if at_border and len(one) >= (_LATIN if one.isascii() else _OTHER):
            scores.append(_AT_BORDER * rank(one) * (len(one) / len(whole)) ** 0.5)
    return max(scores)


def language_of_names(names: Iterable[str]) -> str | None:
    """The language that most columns are called in, where at least three say one; None where they do not."""
    votes, total = defaultdict[str, float](float), 0
    for name in dict.fromkeys(names):
        spoken = {language for known in _vocabulary()[0].values() for language in known.get(folded(name), ())}
        total += bool(spoken)
        for language in spoken:
            votes[language] += 1 / len(spoken)
    best = max(votes, key=lambda language: votes[language], default=None)
    return None if best is None or votes[best] < max(_VOTES, _MAJORITY * total) else best


ROLES: Mapping[Stem, tuple[str, ...]] = {
    "items": ("item_id", "variant_id", "title", "description", "image", "stock", "available_from", "active"),
    "interactions": (
        *("user_id", "item_id", "timestamp", "position", "weight", "event"),
        *("order_id", "status", "cancelled_at", "quantity", "price", "value"),
    ),
    "users": ("user_id",),
}
"""What a column of each table can be."""
NONE = ""
"""What a column is called that a table does not have."""


def unclear(question: str, answers: Iterable[str], option: str) -> SettingsError:
    """The tables do not answer a question: names the option for each answer, which stands at ``{}`` in it."""
    return SettingsError(question, f"say it: {' or '.join(option.format(answer) for answer in answers)}")


@dataclass(frozen=True)
class Overrides:
    """What was said beforehand.

    Attributes:
        columns: By ``item_id`` or ``interactions.item_id``: what the column is called; empty: there is none.
        decimal: The decimal sign of the items' numbers.
        time_format: The ``strptime`` format of the log's times.
        time_zone: The zone of times that name none.
        language: Of the texts.
        level: What is an item where products have variants.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    decimal: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    language: str | None = None
    level: Literal["product", "variant"] | None = None

    def __post_init__(self) -> None:
        known = [*dict.fromkeys(role for roles in ROLES.values() for role in roles)]
        known += [f"{stem}.{role}" for stem, roles in ROLES.items() for role in roles]
        for key in self.columns:
            if key not in known:
                hint = suggestion(key, known, f"known are {', '.join(known)}")
                raise SettingsError(f"there is no column {key!r} of a catalogue", hint)

    def column(self, stem: Stem, role: str, names: list[str], file: str) -> str | None:
        """The column of a role that was named, empty for none; None where nothing was said of this table.

        A SettingsError where the table does not have it; what was said of ``item_id`` alone may be of the other table.
        """
        named = self.columns.get(f"{stem}.{role}")
        if named is not None and named not in (*names, NONE):
            hint = suggestion(named, names, f"its columns are {', '.join(names)}")
            raise SettingsError(f"{file} has no column {named!r}", hint)
        if named is None and self.columns.get(role) in (*names, NONE):
            return self.columns[role]
        return named


SURE = 0.45  # what a name tells from which it is believed
JOINED = 0.5  # share of a column's values that must be in the other table's before it counts as a reference
_FEW = 10  # different values below which being in the other table may be chance, as of small numbers
_LONGEST_ID, _LONG = 64, 60
_LEAD = 0.2  # by how much the best candidate must be ahead of the next one where no name is believed
_RIVALS = (
    *("user_id", "item_id", "timestamp", "quantity", "order", "other", "event", "position", "title", "description"),
    *("stock", "available_from", "active", "cancelled_at"),
)
_ROWS_OF_A_PRODUCT, _OPTIONS, _DIFFERENT = 1.15, 500, 0.02  # rows of a product; values of an option; products with some
_FEW_WORDS = 50  # values of a status


@dataclass(frozen=True)
class Candidate:
    """A column that could fill a role; ``why`` says by what, ``score`` how well: comparable within the role."""

    name: str
    score: float
    why: str
    sure: bool


Rating = tuple[float, str, bool]
"""Score, reason and whether it is sure, see :class:`Candidate`."""


def _rated(
    table: SampledTable, taken: Iterable[str], rate: Callable[[SampledColumn], Rating | None]
) -> list[Candidate]:
    """The columns that have a rating, the best first."""
    rated = [(column.name, rate(column)) for column in table.columns if column.name not in taken]
    return sorted((Candidate(name, *one) for name, one in rated if one is not None), key=lambda one: -one.score)


def _short(column: SampledColumn) -> bool:
    """Whether its values may be ids: short ones that are no moments and no photos."""
    fits = column.filled and not column.listed and column.length <= _LONGEST_ID
    return bool(fits and column.times is None and column.photos < 0.5)


def _can_be_id(column: SampledColumn) -> bool:
    return column.unique >= 0.5 and _short(column)


def _unique(column: SampledColumn) -> str:
    return "every row has its own" if column.unique == 1 else f"{column.unique:.0%} of the rows have their own"


def item_pairs(items: SampledTable, log: SampledTable) -> list[tuple[Candidate, Candidate]]:
    """Columns with which items and log can be joined, the best pair first."""
    pairs = []
    references = [column for column in log.columns if column.times is None and column.filled and not column.listed]
    for own in filter(_can_be_id, items.columns):
        for reference in references:
            names = name_score(own.name, "item_id"), name_score(reference.name, "item_id")
            within, count = contained(reference, own), len(reference.distinct)
            joined = within * min(1.0, count / _FEW)
            sure = min(names) >= SURE or (joined >= JOINED and count >= _FEW)
            theirs = names[1] + joined + 0.3 * (own.name == reference.name) - _rivals(reference.name, "item_id")
            key = Candidate(own.name, names[0] + 0.5 * own.unique + joined, _unique(own), sure)
            pairs.append(
                (key, Candidate(reference.name, theirs, f"{within:.0%} of its values are in {own.name!r}", sure))
            )
    return sorted(pairs, key=lambda pair: -pair[0].score - pair[1].score)


def products(items: SampledTable, variant: SampledColumn) -> list[Candidate]:
    """Columns that could name the product of which each row is a variant, the best first.

    The rows of a product follow each other, and repeat its title or leave it blank.
    """
    titles = [one.name for one in texts(items, "title", [variant.name])[:1]]
    if variant.unique < 1 or variant.addresses >= 0.5 or not titles:
        return []

    def rate(column: SampledColumn) -> Rating | None:
        if not _short(column) or column.addresses >= 0.5:
            return None
        starts = run_starts(column.values)
        runs = len(starts)
        if items.rows < _ROWS_OF_A_PRODUCT * runs or len(column.distinct) != runs:
            return None
        if not _constant(items[titles[0]].values, starts).all():
            return None
        name = max(name_score(column.name, role) for role in ("product_id", "item_id"))
        return name + runs / items.rows, f"{items.rows:,} rows are of {runs:,} products", True

    return _rated(items, [variant.name, *titles], rate)


def options(items: SampledTable, product: SampledColumn, taken: Iterable[str]) -> list[str]:
    """Columns by which the variants of a product differ, as size and colour."""
    starts = run_starts(product.values)

    def rate(column: SampledColumn) -> Rating | None:
        few = column.filled and len(column.distinct) <= _OPTIONS and column.length <= _LONG / 2
        plain = (column.words >= 0.5 and not column.listed) or _named(column, "option")
        if not few or column.times is not None or not plain:
            return None
        differ = int((~_constant(column.values, starts)).sum())
        return None if differ < max(1, _DIFFERENT * len(starts)) else (0.0, "", True)

    return [one.name for one in _rated(items, taken, rate)]


def run_starts(values: pa.Array) -> npt.NDArray[np.int64]:
    """Where each run of equal values begins; a missing value continues the one before."""
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1))
    there = np.flatnonzero(codes >= 0)
    starts = there[np.diff(codes[there], prepend=-1) != 0]
    return np.concatenate([[0], starts[starts > 0]]).astype(np.int64)


def _constant(values: pa.Array, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """In which runs there is one value at most."""
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1)).astype(np.int64)
    most = np.maximum.reduceat(codes, starts)
    least = np.minimum.reduceat(np.where(codes < 0, np.iinfo(np.int64).max, codes), starts)
    constant: npt.NDArray[np.bool_] = (most < 0) | (most == least)
    return constant


def orders(log: SampledTable, user: str | None, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could name the order of a row: by name, else each whose rows name their user in the first one."""
    found = named(log, "order", taken, lambda column: column.times is None)
    if found or user is None or log[user].filled > (1 - _DIFFERENT) * log.rows:
        return found
    there = np.asarray(pc.is_valid(log[user].values))

    def rate(column: SampledColumn) -> Rating | None:
        if column.filled < log.rows or column.listed or column.times is not None:
            return None
        starts = run_starts(column.values)
        first = len(column.distinct) == len(starts) == there[starts].sum()
        if not first or not _constant(log[user].values, starts).all():
            return None
        return len(starts), f"{user!r} is in its first row alone", True

    return _rated(log, taken, rate)


def statuses(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could have the status of orders, those first whose values say that some are cancelled."""
    found = named(log, "status", taken, lambda column: len(column.distinct) <= _FEW_WORDS and column.words > 0.5)
    ends = {one.name: any(says(value, "cancelled") for value in log[one.name].distinct.to_pylist()) for one in found}
    return sorted(found, key=lambda one: (not ends[one.name], -one.score))


def user_ids(log: SampledTable, taken: Iterable[str], users: SampledTable | None) -> list[Candidate]:
    """Columns of a log that could say who, the best first; an order stands for its customer where there is no other."""
    keys = [] if users is None else [column for column in users.columns if _can_be_id(column)]

    def rate(column: SampledColumn) -> Rating | None:
        if column.times is not None or not column.filled or column.listed:
            return None
        name, order = name_score(column.name, "user_id"), name_score(column.name, "order")
        many = min(1.0, len(column.distinct) / _FEW)
        joined = max((contained(column, key) for key in keys), default=0.0) * many
        score = name + joined - _rivals(column.name, "user_id")
        if column.length <= _LONGEST_ID:
            score += 0.5 * (1 - column.unique) * many
        why = f"{len(column.distinct):,} different values in {column.filled:,} rows"
        if name < SURE:
            score += 0.35 * order
            why = why if order < SURE else "no column says who: every order counts as a visitor of its own"
        return score, why, max(name, order) >= SURE or joined >= JOINED

    return _rated(log, taken, rate)


def keys(table: SampledTable, role: str, in_log: SampledColumn | None = None) -> list[Candidate]:
    """Columns that could be the ids of a table of items or users, the best first."""

    def rate(column: SampledColumn) -> Rating | None:
        if not _can_be_id(column):
            return None
        name = max(name_score(column.name, role), 0.6 * (column.name.strip().lower() == "id"))
        joined = 0.0 if in_log is None else contained(in_log, column)
        sure = joined >= JOINED or (name >= SURE and not (role == "item_id" and _rivals(column.name, role)))
        return name + 0.5 * column.unique + joined, _unique(column), sure

    return _rated(table, (), rate)


def timestamps(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns with times, the best first: by name, else the first one with a time of day."""

    def rate(column: SampledColumn) -> Rating | None:
        times, name = column.times, name_score(column.name, "timestamp")
        if times is None:
            return None
        if times.zone and column.numbers > 0.9 and name < SURE and not column.name.lower().endswith("at"):
            return None  # large numbers may be anything
        score = name + 0.2 * times.clock + 0.3 * column.filled / max(len(column.values), 1)
        return score - 0.01 * log.names.index(column.name), f"such as {times.example}", True

    return _rated(log, taken, rate)


def texts(items: SampledTable, role: str, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could be title or description, the best first."""

    def rate(column: SampledColumn) -> Rating | None:
        length = column.length
        if column.words < 0.5 or column.numbers > 0.5 or column.separated > 0.3:
            return None
        if role == "title":
            several = len(column.distinct) >= min(_FEW, column.filled)
            fit = column.unique if 3 <= length <= 2.5 * _LONG and several else 0.0
        else:
            fit = min(1.0, length / (4 * _LONG)) * (length > _LONG)
        score = name_score(column.name, role) + 0.5 * fit - 0.5 * _rivals(column.name, role)
        return None if score < SURE else (score, f"{length:.0f} characters on average", _named(column, role))

    return _rated(items, taken, rate)


def photos(items: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns that name photos, the best first; those with web addresses are among them."""

    def rate(column: SampledColumn) -> Rating | None:
        name = name_score(column.name, "image")
        seen = max(column.photos, column.addresses if name >= SURE else 0.0)
        return None if seen < 0.5 else (name + seen, f"such as {column.distinct[0].as_py()}", True)

    return _rated(items, taken, rate)


def named(
    table: SampledTable, role: str, taken: Iterable[str], fits: Callable[[SampledColumn], bool], *, empty: bool = False
) -> list[Candidate]:
    """Columns that are called as a role and hold what fits it, or nothing where it may be ``empty``, the best first."""

    def rate(column: SampledColumn) -> Rating | None:
        if not _named(column, role) or not (fits(column) if column.filled else empty):
            return None
        return name_score(column.name, role), "by its name", True

    return _rated(table, taken, rate)


def contained(some: SampledColumn, others: SampledColumn) -> float:
    """Share of the different values of a column that another one has."""
    if not len(some.distinct) or some.listed or others.listed:
        return 0.0
    return float(np.asarray(pc.is_in(some.distinct, others.distinct)).mean())


def clear(found: list[Candidate]) -> bool:
    """Whether the best candidate is one: by itself, the only one, or ahead of the others where no name is believed."""
    if len(found) < 2:
        return bool(found)
    return found[0].sure or (found[0].score - found[1].score >= _LEAD and found[0].score >= JOINED)


@lru_cache(maxsize=4096)
def _rivals(name: str, role: str) -> float:
    """What a name tells of other roles, as far as it tells less of this one; an order may stand for its user."""
    own = (role, "order") if role == "user_id" else (role,)
    others = max(name_score(name, rival) for rival in _RIVALS if rival not in own)
    return max(0.0, others - name_score(name, role))


def _named(column: SampledColumn, role: str) -> bool:
    return name_score(column.name, role) >= SURE and not _rivals(column.name, role)
