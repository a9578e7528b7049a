"""Which column of a table is what: by its name in several languages, by its values, and by those of other tables."""

import tomllib
import unicodedata
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
    del read["values"]
    return {role: _places(lists) for role, lists in read.items()}


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
        at_border = whole.startswith(one) or whole.endswith(one)
        if len(one) >= (_LATIN if one.isascii() else _OTHER) and one != whole and at_border:
            best = max(best, _AT_BORDER * _rank(places) * (len(one) / len(whole)) ** 0.5)
    return best


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


def item_pairs(items: SampledTable, log: SampledTable) -> list[tuple[Candidate, Candidate]]:
    """Columns with which items and log can be joined, the best pair first."""
    pairs = []
    for own in items.columns:
        if not _can_be_id(own):
            continue
        for reference in log.columns:
            if reference.times is None and reference.filled and not reference.listed:
                pairs.append(_pair(own, reference))
    return sorted(pairs, key=lambda pair: -pair[0].score - pair[1].score)


def _pair(own: SampledColumn, reference: SampledColumn) -> tuple[Candidate, Candidate]:
    names = name_score(own.name, "item_id"), name_score(reference.name, "item_id")
    within = contained(reference, own)
    joined = within * min(1.0, len(reference.distinct) / _FEW)
    believed = min(names) >= SURE or (joined >= JOINED and len(reference.distinct) >= _FEW)
    same = 0.3 if own.name == reference.name else 0.0
    why = f"{within:.0%} of its values are in {own.name!r}"
    return (
        Candidate(own.name, names[0] + 0.5 * own.unique + joined, _unique(own), believed),
        Candidate(reference.name, names[1] + joined + same - _rivals(reference.name, "item_id"), why, believed),
    )


def _can_be_id(column: SampledColumn) -> bool:
    """Not what is missing, repeated, long, a moment or a photo."""
    fits = column.filled and not column.listed and column.unique >= 0.5 and column.length <= _LONGEST_ID
    return bool(fits and column.times is None and column.photos < 0.5)


def products(items: SampledTable, variant: SampledColumn) -> list[Candidate]:
    """Columns that could name the product of which each row is a variant, the best first.

    The rows of a product follow each other, and repeat its title or leave it blank.
    """
    if variant.unique < 1 or variant.addresses >= 0.5:
        return []
    found = []
    titles = texts(items, "title", [variant.name])
    for column in items.columns:
        if column.name in (variant.name, *(one.name for one in titles[:1])) or not _names_products(column):
            continue
        starts = run_starts(column.values)
        runs = len(starts)
        repeats = items.rows >= _ROWS_OF_A_PRODUCT * runs and len(column.distinct) == runs
        if repeats and titles and _constant(items[titles[0].name].values, starts).all():
            name = max(name_score(column.name, role) for role in ("product_id", "item_id"))
            why = f"{items.rows:,} rows are of {runs:,} products"
            found.append(Candidate(column.name, name + runs / items.rows, why, True))
    return _ordered(found)


def options(items: SampledTable, product: SampledColumn, taken: Iterable[str]) -> list[str]:
    """Columns by which the variants of a product differ, as size and colour."""
    starts = run_starts(product.values)
    found = []
    for column in items.columns:
        few = column.filled and len(column.distinct) <= _OPTIONS and column.length <= _LONG / 2
        named = name_score(column.name, "option") >= SURE and not _rivals(column.name, "option")
        plain = column.words >= 0.5 and not column.listed
        if column.name not in taken and few and column.times is None and (named or plain):
            differs = ~_constant(column.values, starts)
            if differs.sum() >= max(1, _DIFFERENT * len(starts)):
                found.append(column.name)
    return found


def run_starts(values: pa.Array) -> npt.NDArray[np.int64]:
    """Where each run of equal values begins; a missing value continues the one before."""
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1))
    there = np.flatnonzero(codes >= 0)
    new = np.append(True, codes[there][1:] != codes[there][:-1]) if len(there) else np.zeros(0, bool)
    starts = there[new]
    return np.concatenate([[0], starts[starts > 0]]).astype(np.int64)


def _constant(values: pa.Array, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """In which runs there is one value at most."""
    codes = np.asarray(values.dictionary_encode().indices.fill_null(-1)).astype(np.int64)
    most = np.maximum.reduceat(codes, starts)
    least = np.minimum.reduceat(np.where(codes < 0, np.iinfo(np.int64).max, codes), starts)
    constant: npt.NDArray[np.bool_] = (most < 0) | (most == least)
    return constant


def _names_products(column: SampledColumn) -> bool:
    short = column.filled and not column.listed and column.length <= _LONGEST_ID
    return bool(short and column.times is None and column.photos < 0.5 and column.addresses < 0.5)


def orders(log: SampledTable, user: str | None, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could name the order of a row: by name, else each whose rows name their user in the first one."""
    found = named(log, "order", taken, lambda column: column.times is None)
    if found or user is None or log[user].filled > (1 - _DIFFERENT) * log.rows:
        return found
    there = np.asarray(pc.is_valid(log[user].values))
    for column in log.columns:
        if column.name in taken or column.filled < log.rows or column.listed or column.times is not None:
            continue
        starts = run_starts(column.values)
        if len(column.distinct) == len(starts) == there[starts].sum() and _constant(log[user].values, starts).all():
            found.append(Candidate(column.name, len(starts), f"{user!r} is in its first row alone", True))
    return _ordered(found)


def statuses(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could have the status of orders, those first whose values say that some are cancelled."""
    found = named(log, "status", taken, lambda column: len(column.distinct) <= _FEW_WORDS and column.words > 0.5)
    ends = {one.name: any(says(value, "cancelled") for value in log[one.name].distinct.to_pylist()) for one in found}
    return sorted(found, key=lambda one: (not ends[one.name], -one.score))


def cancellations(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns that say when an order was cancelled; they may be empty so far."""
    columns = [column for column in log.columns if column.name not in taken and _named(column, "cancelled_at")]
    fits = [column for column in columns if not column.filled or column.times is not None]
    return _ordered([Candidate(c.name, name_score(c.name, "cancelled_at"), "by its name", True) for c in fits])


def item_ids(items: SampledTable) -> list[Candidate]:
    """Columns that could be the items' ids where there is no log, the best first."""
    found = [
        Candidate(c.name, name_score(c.name, "item_id") + 0.5 * c.unique, _unique(c), _named(c, "item_id"))
        for c in items.columns
        if _can_be_id(c)
    ]
    return _ordered(found)


def user_ids(log: SampledTable, taken: Iterable[str], users: SampledTable | None) -> list[Candidate]:
    """Columns of a log that could say who, the best first; an order stands for its customer where there is no other."""
    keys = [] if users is None else [column for column in users.columns if _can_be_id(column)]
    found = []
    for column in log.columns:
        if column.name in taken or column.times is not None or not column.filled or column.listed:
            continue
        name, order = name_score(column.name, "user_id"), name_score(column.name, "order")
        joined = max((contained(column, key) for key in keys), default=0.0) * min(1.0, len(column.distinct) / _FEW)
        repeated = (1 - column.unique) * min(1.0, len(column.distinct) / _FEW) if column.length <= _LONGEST_ID else 0.0
        stands_in = 0.35 * order if name < SURE else 0.0
        score = name + 0.5 * repeated + joined + stands_in - _rivals(column.name, "user_id")
        why = f"{len(column.distinct):,} different values in {column.filled:,} rows"
        if name < SURE <= order:
            why = "no column says who: every order counts as a visitor of its own"
        found.append(Candidate(column.name, score, why, max(name, order) >= SURE or joined >= JOINED))
    return _ordered(found)


def key_of(users: SampledTable, in_log: SampledColumn | None) -> list[Candidate]:
    """Columns that could be the ids of a users table, the best first."""
    found = []
    for column in users.columns:
        if _can_be_id(column):
            name = max(name_score(column.name, "user_id"), 0.6 * (column.name.strip().lower() == "id"))
            joined = 0.0 if in_log is None else contained(in_log, column)
            sure = name >= SURE or joined >= JOINED
            found.append(Candidate(column.name, name + 0.5 * column.unique + joined, _unique(column), sure))
    return _ordered(found)


def timestamps(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns with times, the best first: by name, else the first one with a time of day."""
    found = []
    for place, column in enumerate(log.columns):
        times = column.times
        if times is None or column.name in taken:
            continue
        named = name_score(column.name, "timestamp")
        if times.zone and column.numbers > 0.9 and named < SURE and not column.name.lower().endswith("at"):
            continue  # large numbers may be anything
        score = named + 0.2 * times.clock + 0.3 * column.filled / max(len(column.values), 1) - 0.01 * place
        found.append(Candidate(column.name, score, f"such as {times.example}", True))
    return _ordered(found)


def texts(items: SampledTable, role: str, taken: Iterable[str]) -> list[Candidate]:
    """Columns that could be title or description, the best first."""
    found = []
    for column in items.columns:
        if column.name in taken or column.words < 0.5 or column.numbers > 0.5 or column.separated > 0.3:
            continue
        name = name_score(column.name, role)
        fit = _as_title(column) if role == "title" else min(1.0, column.length / (4 * _LONG)) * (column.length > _LONG)
        score = name + 0.5 * fit - 0.5 * _rivals(column.name, role)
        found.append(Candidate(column.name, score, f"{column.length:.0f} characters on average", _named(column, role)))
    return _ordered(found, least=0.45)


def _as_title(column: SampledColumn) -> float:
    fits = 3 <= column.length <= 2.5 * _LONG
    return column.unique if fits and len(column.distinct) >= min(_FEW, column.filled) else 0.0


def photos(items: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns that name photos, the best first; those with web addresses are among them."""
    found = []
    for column in items.columns:
        seen = max(column.photos, column.addresses if name_score(column.name, "image") >= SURE else 0.0)
        if column.name not in taken and seen >= 0.5:
            why = f"such as {column.distinct[0].as_py()}"
            found.append(Candidate(column.name, name_score(column.name, "image") + seen, why, True))
    return _ordered(found)


def named(
    table: SampledTable, role: str, taken: Iterable[str], fits: Callable[[SampledColumn], bool]
) -> list[Candidate]:
    """Columns that are called as a role and hold what fits it, the best first."""
    found = [
        Candidate(column.name, name_score(column.name, role), "by its name", True)
        for column in table.columns
        if column.name not in taken and column.filled and _named(column, role) and fits(column)
    ]
    return _ordered(found)


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


def _unique(column: SampledColumn) -> str:
    return "every row has its own" if column.unique == 1 else f"{column.unique:.0%} of the rows have their own"


def _ordered(found: list[Candidate], least: float = float("-inf")) -> list[Candidate]:
    return sorted((one for one in found if one.score >= least), key=lambda one: -one.score)
