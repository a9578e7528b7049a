"""Items whose category is another one by what they are like and by what people take with them.

Two witnesses are asked that do not know each other. Content: most of the items that it is most like are of the other
category, and hardly one of its own. Behaviour: what else people took fits the other category better than its own, by a
logarithm of probabilities whose mean over people has a standard error. Both must say the same; where content tells the
categories of the catalogue apart nearly always, it is enough that behaviour does not object: people may well take
things of all categories together. Categories that often look alike are no news: where items of one often have
neighbours of the other, nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from molar_indexes.item_map.agreement import FEWEST, Numbers
from molar_indexes.item_map.views import Views
from molar_retrieval.workspace.tensors import Rows

VOTERS = 15
"""Items that are asked of which category they are."""
_MOST, _LEAST = 0.5, 0.15  # share of the voters for the other category, and for its own
_FUZZY = 0.05  # share of a category's items that may have neighbours of another one for these to be told apart
_SURE, _DENIED = 3.0, -1.0  # standard errors by which behaviour agrees, and objects
_TELLING = 0.85  # share of the items whose neighbours are of their category more than of any other, to be enough
_FEW, _MANY = 3, 2_000  # fewest items of a category; most categories
_SMOOTH = 0.01


@dataclass(frozen=True, eq=False)
class Categories:
    """The values of one field: ``names`` by number, and which items have which, ones in a matrix of shape (n, K)."""

    field: str
    names: tuple[str, ...]
    of: csr_matrix

    @classmethod
    def read(cls, field: str, values: Sequence[object]) -> "Categories":
        """From what each item has in a field: a value, a list of them, or None."""
        lists = [[str(v) for v in (value if isinstance(value, list) else [value]) if v is not None] for value in values]
        names = tuple(sorted({name for found in lists for name in found}))
        number = {name: place for place, name in enumerate(names)}
        ends = np.concatenate([[0], np.cumsum([len(found) for found in lists])]).astype(np.int64)
        columns = np.array([number[name] for found in lists for name in found], np.int32)
        of = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(lists), len(names)))
        of.sum_duplicates()
        of.data[:] = 1
        return cls(field, names, of)

    @property
    def first(self) -> Rows:
        """The number of each item's most frequent value, -1 for none."""
        counts = np.asarray(self.of.sum(axis=0)).ravel()
        own = np.diff(self.of.indptr) > 0
        found = np.full(self.of.shape[0], -1, np.int64)
        weighed = csr_matrix((counts[self.of.indices], self.of.indices, self.of.indptr), shape=self.of.shape)
        found[own] = np.asarray(weighed.argmax(axis=1)).ravel()[own]
        return found

    def told_by(self, alike: Rows) -> float:
        """How much neighbours say of an item's value: the mean logarithm of how many times chance they agree."""
        share = np.asarray(self.of.mean(axis=0)).ravel()
        chance = np.asarray(self.of @ share[:, None]).ravel()
        own = np.diff(self.of.indptr) > 0
        agree = _votes(self.of, alike).multiply(self.of).sum(axis=1)
        k = alike.shape[1]
        ratio = (np.asarray(agree).ravel() * k + chance) / (k + 1) / np.maximum(chance, 1e-12)
        return float(np.log(ratio[own]).mean() * own.mean()) if own.any() else 0.0


def chosen(fields: Mapping[str, Sequence[object]], alike: Rows) -> Categories | None:
    """Of several fields, the one of which items tell most that are alike; None where none groups the items."""
    found = [Categories.read(name, values) for name, values in fields.items()]
    able = [one for one in found if _FEW <= len(one.names) <= min(_MANY, max(_FEW, len(alike) // _FEW))]
    told = [(one.told_by(alike), one) for one in able]
    return max(told, key=lambda pair: pair[0])[1] if told else None


@dataclass(frozen=True)
class OtherCategory:
    """An item that seems to be of another category than it says.

    ``votes`` of :data:`VOTERS` similar items for the other category and for its own; of what the ``people`` who took it
    took besides, the shares of both, and the usual ones of the other category. ``score``: by how many standard errors
    behaviour agrees.
    """

    row: int
    own: str
    other: str
    votes: tuple[int, int]
    people: int
    share: tuple[float, float]
    usual: tuple[float, float]  # in what people take with items of it, and with items of its own one
    score: float

    @property
    def agreed(self) -> bool:
        """Whether behaviour says the same."""
        return self.people >= FEWEST and self.score > _SURE


def other_categories(views: Views, categories: Categories, alike: Rows) -> list[OtherCategory]:
    """Items whose category both views deny, the surest first; ``alike`` are at least :data:`VOTERS` rows of each."""
    of, voters = categories.of, alike[:, :VOTERS]
    votes = _votes(of, voters).toarray()
    has = np.diff(of.indptr) > 0
    own_votes = _votes_of_own(of, voters)
    best = votes.argmax(axis=1)
    leading = votes[np.arange(len(best)), best]
    own_leads = of[np.arange(len(best)), best].A1 > 0
    stray = has & (leading >= _MOST) & ~own_leads
    first = categories.first
    telling = bool(has.any()) and float(own_leads[has].mean()) >= _TELLING
    sizes = np.asarray(of.sum(axis=0)).ravel()
    confusion = csr_matrix((np.ones(stray.sum()), (first[stray], best[stray])), shape=(len(sizes), len(sizes)))
    company = _Company(views, of)
    found = []
    for row in np.flatnonzero(stray & (own_votes <= _LEAST)).tolist():
        own, other = int(first[row]), int(best[row])
        often = confusion[own, other] > max(1, _FUZZY * sizes[own])
        if often or sizes[other] < _FEW:
            continue
        counts = round(float(leading[row]) * VOTERS), round(float(own_votes[row]) * VOTERS)
        people, share, usual, score = company.compared(row, own, other)
        names = categories.names[own], categories.names[other]
        one = OtherCategory(row, *names, counts, people, share, usual, score)
        if one.agreed or (telling and one.score > _DENIED):
            found.append(one)
    return sorted(found, key=lambda one: (-one.score, one.row))


def _votes(of: csr_matrix, alike: Rows) -> csr_matrix:
    """Which share of an item's neighbours has each value, shape (n, K)."""
    return csr_matrix(_among(alike) @ of)


def _votes_of_own(of: csr_matrix, alike: Rows) -> Numbers:
    """Which share of an item's neighbours has one of its own values, shape (n,)."""
    shared = np.zeros(len(alike))
    for place in range(alike.shape[1]):
        other = alike[:, place]
        both = of.multiply(of[np.maximum(other, 0)]).sum(axis=1).A1 > 0
        shared += both & (other >= 0)
    found: Numbers = shared / np.maximum((alike >= 0).sum(axis=1), 1)
    return found


def _among(alike: Rows) -> csr_matrix:
    n, k = alike.shape
    known = alike.ravel() >= 0
    counts = np.repeat(np.maximum((alike >= 0).sum(axis=1), 1), k)[known]
    own = np.repeat(np.arange(n), k)[known]
    return csr_matrix((1 / counts, (own, alike.ravel()[known])), shape=(n, n))


class _Company:
    """What people take with items, by category."""

    def __init__(self, views: Views, of: csr_matrix) -> None:
        self._taken, self._of = views.taken.tocsc(), of
        self._lengths = np.maximum(np.diff(views.taken.indptr) - 1, 1)
        self._counts = (views.taken @ of).toarray()
        people = np.maximum(np.asarray(views.taken.sum(axis=0)).ravel(), 1)
        weights = csr_matrix(views.taken.T @ (self._counts / self._lengths[:, None]))
        inverse = np.asarray(views.taken.T @ (1 / self._lengths)).ravel()
        shares = weights.toarray() - of.multiply(inverse[:, None]).toarray()
        self._people, self._shares = people, shares / people[:, None]

    def compared(self, row: int, own: int, other: int) -> tuple[int, tuple[float, float], tuple[float, float], float]:
        """``people``, ``share``, ``usual`` and ``score`` of :class:`OtherCategory`."""
        start, stop = self._taken.indptr[row : row + 2]
        people = self._taken.indices[start:stop]
        own_values = self._of[row].toarray().ravel()
        shares = (self._counts[people] - own_values) / self._lengths[people][:, None]
        theirs, its = self._profile(other, row), self._profile(own, row)
        gains = shares @ np.log((theirs + _SMOOTH) / (its + _SMOOTH))
        n, usual = len(gains), (float(theirs[other]), float(its[other]))
        if n < 2:
            return n, (0.0, 0.0), usual, 0.0
        error = float(np.sqrt(gains.var(ddof=1) / n + 1e-9))
        mean = shares.mean(axis=0)
        return n, (float(mean[other]), float(mean[own])), usual, float(gains.mean()) / error

    def _profile(self, category: int, without: int) -> Numbers:
        """Shares of all categories in what people take with a typical item of one, shape (K,)."""
        members = self._of[:, [category]].toarray().ravel() > 0
        members[without] = False
        weights = np.minimum(self._people[members], 100)
        if not len(weights):
            return np.full(self._shares.shape[1], 1 / self._shares.shape[1])
        found: Numbers = np.average(self._shares[members], axis=0, weights=weights)
        return found
