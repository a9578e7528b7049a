"""How far people take together what is alike: of each item, with an error, against chance and against other items.

The unit is a person, not a pair of items. Of each who took an item it is asked which share of what else they took is
among the items that are most like it; the mean over people has a standard error, so an item with few of them is said to
be unknown rather than ranked by noise. By chance the share is what such items have of all that an average person takes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags

from molar_indexes.item_map.views import Views
from molar_retrieval.workspace.tensors import Mask, Rows

Numbers = npt.NDArray[np.float64]
FEWEST = 5
"""People without whom nothing is said of an item."""
_SURE = 1.96
_GROUPS, _GROUP = 10, 50  # of items that about as many people took: at most so many, and the fewest items of one
_COMMON = 0.1  # by how much the typical share must be above chance for an item to be judged by it
_BLOCK = 256
_PRIOR = 5.0  # people's worth of the common variance that is added to an item's own


@dataclass(frozen=True, eq=False)
class Agreements:
    """Of each of n items: how many people took it and something else, the share of that that is alike, and by chance.

    ``level`` is 0 where people take what is alike no more than by chance, and 1 where they do as for a typical item
    that as many people took; ``low`` and ``high`` bound it with 95 %. ``lift`` is how many times chance that one has,
    shape (n,): what everybody takes is taken with everything.
    """

    people: npt.NDArray[np.int64]
    share: Numbers
    chance: Numbers
    error: Numbers
    lift: Numbers

    @property
    def in_common(self) -> float:
        """How many times chance the share of the median item is, above 1; 0 where no item is judged."""
        judged = self.people >= FEWEST
        return float(np.median(self.lift[judged])) if judged.any() else 0.0

    @property
    def level(self) -> Numbers:
        """How far people take what is alike together, shape (n,)."""
        return self._scaled(self.share)

    @property
    def low(self) -> Numbers:
        """What :attr:`level` is at least, with 95 %."""
        return self._scaled(self.share - _SURE * self.error)

    @property
    def high(self) -> Numbers:
        """What :attr:`level` is at most, with 95 %."""
        return self._scaled(self.share + _SURE * self.error)

    @property
    def known(self) -> Mask:
        """Where the bounds are near enough to say anything, shape (n,)."""
        near = (self.low > 0) | (self.high < 1)
        return (self.people >= FEWEST) & (self.chance > 0) & (self.lift >= 1 + _COMMON) & near

    def _scaled(self, share: Numbers) -> Numbers:
        return (share - self.chance) / np.maximum((self.lift - 1) * self.chance, _COMMON * self.chance + 1e-12)


def agreements(views: Views, alike: Rows) -> Agreements:
    """Judge all items by the rows, (n, k), that each is most like, -1 for none."""
    n, taken = len(views), views.taken
    near = _sets(alike, n)
    lengths = np.maximum(np.diff(taken.indptr) - 1, 1)
    people = np.bincount(taken.indices, minlength=n)
    weighed = csr_matrix(diags(1 / (lengths + 1.0)) @ taken)
    common = np.asarray(weighed.sum(axis=0)).ravel()
    common = common / max(float(common.sum()), 1e-12)
    chance = (near @ common) / np.maximum(1 - common, 1e-12)
    first, second = np.zeros(n), np.zeros(n)
    for begin in range(0, taken.shape[0], _BLOCK):
        block = taken[begin : begin + _BLOCK]
        hits = csr_matrix(block.multiply(block @ near.T))
        shares = hits.data / np.repeat(lengths[begin : begin + _BLOCK], np.diff(hits.indptr))
        first += np.bincount(hits.indices, shares, n)
        second += np.bincount(hits.indices, shares**2, n)
    some = np.maximum(people, 1)
    share = first / some
    own = np.maximum(second - some * share**2, 0)
    pooled = float(own.sum()) / max(int(np.maximum(people - 1, 0).sum()), 1)
    error = np.sqrt((own + _PRIOR * pooled) / (np.maximum(people - 1, 0) + _PRIOR) / some)
    return Agreements(people, share, chance, error, _typical(people, share, chance))


def _typical(people: npt.NDArray[np.int64], share: Numbers, chance: Numbers) -> Numbers:
    """How many times chance the median item has of those that about as many people took."""
    judged = np.flatnonzero((people >= FEWEST) & (chance > 0))
    if not len(judged):
        return np.ones(len(people))
    order = judged[np.argsort(people[judged], kind="stable")]
    groups = np.array_split(order, max(1, min(_GROUPS, len(order) // _GROUP)))
    lifts = [float(np.median(share[group] / chance[group])) for group in groups]
    found: Numbers = np.interp(people, [float(np.median(people[group])) for group in groups], lifts)
    return found


def _sets(alike: Rows, n: int) -> csr_matrix:
    """Rows of neighbours as a matrix of ones, shape (n, n)."""
    known = alike.ravel() >= 0
    own = np.repeat(np.arange(n), alike.shape[1])[known]
    return csr_matrix((np.ones(len(own), np.float32), (own, alike.ravel()[known])), shape=(n, n))
