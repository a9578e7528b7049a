"""Which column of a table is what: by its name, by what it holds, and by what of it is in the other table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow.compute as pc

from molar_retrieval.proposal.tables import SampledColumn, SampledTable
from molar_retrieval.proposal.vocabulary import told_by_name

SURE = 0.45  # what a name tells from which it is believed
JOINED = 0.5  # share of a column's values that must be in the other table's before it counts as a reference
_FEW = 10  # different values below which being in the other table may be chance, as of small numbers
_LONGEST_ID, _LONG = 64, 60
_LEAD = 0.2  # by how much the best candidate must be ahead of the next one where no name is believed
_RIVALS: tuple[str, ...] = (
    "user_id",
    "item_id",
    "timestamp",
    "quantity",
    "order",
    "other",
    "event",
    "position",
    "title",
    "description",
)
_RIVALS += ("stock", "available_from", "active")


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
    names = told_by_name(own.name, "item_id"), told_by_name(reference.name, "item_id")
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


def item_ids(items: SampledTable) -> list[Candidate]:
    """Columns that could be the items' ids where there is no log, the best first."""
    found = [
        Candidate(c.name, told_by_name(c.name, "item_id") + 0.5 * c.unique, _unique(c), _named(c, "item_id"))
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
        name, order = told_by_name(column.name, "user_id"), told_by_name(column.name, "order")
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
            name = max(told_by_name(column.name, "user_id"), 0.6 * (column.name.strip().lower() == "id"))
            joined = 0.0 if in_log is None else contained(in_log, column)
            sure = name >= SURE or joined >= JOINED
            found.append(Candidate(column.name, name + 0.5 * column.unique + joined, _unique(column), sure))
    return _ordered(found)


def moments(log: SampledTable, taken: Iterable[str]) -> list[Candidate]:
    """Columns with times, the best first: by name, else the first one with a time of day."""
    found = []
    for place, column in enumerate(log.columns):
        times = column.times
        if times is None or column.name in taken:
            continue
        named = told_by_name(column.name, "timestamp")
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
        name = told_by_name(column.name, role)
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
        seen = max(column.photos, column.addresses if told_by_name(column.name, "image") >= SURE else 0.0)
        if column.name not in taken and seen >= 0.5:
            why = f"such as {column.distinct[0].as_py()}"
            found.append(Candidate(column.name, told_by_name(column.name, "image") + seen, why, True))
    return _ordered(found)


def named(
    table: SampledTable, role: str, taken: Iterable[str], fits: Callable[[SampledColumn], bool]
) -> list[Candidate]:
    """Columns that are called as a role and hold what fits it, the best first."""
    found = [
        Candidate(column.name, told_by_name(column.name, role), "by its name", True)
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
    others = max(told_by_name(name, rival) for rival in _RIVALS if rival not in own)
    return max(0.0, others - told_by_name(name, role))


def _named(column: SampledColumn, role: str) -> bool:
    return told_by_name(column.name, role) >= SURE and not _rivals(column.name, role)


def _unique(column: SampledColumn) -> str:
    return "every row has its own" if column.unique == 1 else f"{column.unique:.0%} of the rows have their own"


def _ordered(found: list[Candidate], least: float = float("-inf")) -> list[Candidate]:
    return sorted((one for one in found if one.score >= least), key=lambda one: -one.score)
