"""Where content and behaviour disagree about an item, as one list: what seems to be wrong, and why it is thought so.

How far people take together what is alike: of each item, with an error, against chance and against other items.

The unit is a person, not a pair of items. Of each who took an item it is asked which share of what else they took is
among the items that are most like it; the mean over people has a standard error, so an item with few of them is said to
be unknown rather than ranked by noise. By chance the share is what such items have of all that an average person takes.

Items whose category is another one by what they are like and by what people take with them.

Two witnesses are asked that do not know each other. Content: most of the items that it is most like are of the other
category, and hardly one of its own. Behaviour: what else people took fits the other category better than its own, by a
logarithm of probabilities whose mean over people has a standard error. Both must say the same; where content tells the
categories of the catalogue apart nearly always, it is enough that behaviour does not object: people may well take
things of all categories together. Categories that often look alike are no news: where items of one often have
neighbours of the other, nothing is said.

Photos that do not belong to the words beside them, unless what people take says that they do.

Words and photos are judged by :mod:`molar_retrieval.quality.photo_text`, by the vectors that the generation has.
Behaviour is a third witness: where people who took an item also took what looks like its photo, more than they usually
do, the photo is not doubted.

Items that may be best-sellers that nobody sees: what is like them is taken far more, or they are hardly shown.

How often an item is taken is compared with the items that it is most like, on a logarithmic scale and by how much such
differences vary in the catalogue; most of them must be taken several times as often. They are not compared at all where
what an item is like says little about how often it is taken. Where it is known how often items were shown, that must
have been rare: what was shown as often as the others and not taken is not hidden. Nothing is said of items that came in
the last tenth of the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from scipy.special import ndtr

from molar_indexes.item_map.views import NEAR, Views
from molar_retrieval.quality import photo_text
from molar_retrieval.workspace.tensors import Mask, Rows

Numbers = npt.NDArray[np.float64]
FEWEST = 5
"""People without whom nothing is said of an item."""
_SURE = 1.96
_GROUPS, _GROUP = 10, 50  # of items that about as many people took: at most so many, and the fewest items of one
_COMMON = 0.1  # by how much the typical share must be above chance for an item to be judged by it
_BLOCK = 256
_PRIOR = 5.0  # people's worth of the common variance that is added to an item's own
VOTERS = 15
"""Items that are asked of which category they are."""
_MAJORITY, _LEAST = 0.5, 0.15  # share of the voters for the other category, and for its own
_FUZZY = 0.05  # share of a category's items that may have neighbours of another one for these to be told apart
_CERTAIN, _DENIED = 3.0, -1.0  # standard errors by which behaviour agrees, and objects
_TELLING_CONTENT = (
    0.85  # share of the items whose neighbours are of their category more than of any other, to be enough
)
_FEW, _MANY_ITEMS = 3, 2_000  # fewest items of a category; most categories
_SMOOTH = 0.01
_TOLD_APART = 0.9  # how often own words must fit a photo better than others' for two exchanged photos to be believed
_VOUCHED = 1.64  # standard errors above the typical by which people's takes speak for a photo
_FAR = 2.33  # standard deviations below what is like it
_TELLING_SALES = 0.3  # correlation of how often items and what is like them are taken, for anything to be said by it
_TIMES_MORE, _MOST_SOLD = 5, 0.8  # how many times as often what is like it must be taken, and how much of it
_RARELY = 0.5  # of how often what is like it was shown
_SHOWN, _TIMES, _SURE_OF_SALES = (
    20,
    2.0,
    1.96,
)  # impressions, and how many times the rate of others a rate must surely be
_NEW = 0.1
Kind = Literal["photo", "category", "hidden", "apart"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST = 200
"""Disagreements of one kind that are kept, the surest ones."""
_APART = 0.5  # of the level of a typical item, below which two views disagree
_SHARE, _FEWEST, _MANY = 0.05, NEAR, 200  # of the items are near an item; at least and at most so many


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
    able = [one for one in found if _FEW <= len(one.names) <= min(_MANY_ITEMS, max(_FEW, len(alike) // _FEW))]
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
        return self.people >= FEWEST and self.score > _CERTAIN


def other_categories(views: Views, categories: Categories, alike: Rows) -> list[OtherCategory]:
    """Items whose category both views deny, the surest first; ``alike`` are at least :data:`VOTERS` rows of each."""
    of, voters = categories.of, alike[:, :VOTERS]
    votes = _votes(of, voters).toarray()
    has = np.diff(of.indptr) > 0
    own_votes = _votes_of_own(of, voters)
    best = votes.argmax(axis=1)
    leading = votes[np.arange(len(best)), best]
    own_leads = of[np.arange(len(best)), best].A1 > 0
    stray = has & (leading >= _MAJORITY) & ~own_leads
    first = categories.first
    telling = bool(has.any()) and float(own_leads[has].mean()) >= _TELLING_CONTENT
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


@dataclass(frozen=True)
class OtherPhoto:
    """An item whose photo seems to be of something else.

    ``better``: the share of other items' words that fit the photo better than its own; ``belongs``: the row whose photo
    was exchanged with it, or None. Of what ``people`` who took it took besides, the ``share`` of what looks like it,
    which is ``chance`` by chance and ``usual`` for an item that as many people took. ``score``: the higher, the surer.
    """

    row: int
    better: float
    belongs: int | None
    people: int
    share: float
    chance: float
    usual: float
    score: float


def other_photos(views: Views, near: int) -> list[OtherPhoto]:
    """Items whose photo and words do not go together, the surest first; behaviour asks for ``near`` similar photos."""
    if not {"text", "image"} <= views.sources.keys():
        return []
    images = views.sources["image"]
    found = photo_text.agreement(images, views.sources["text"])
    if found is None or not found.useful:
        return []
    low = np.flatnonzero(found.fit < found.limit).tolist()
    doubted: dict[int, tuple[int, int | None]] = {int(found.rows[place]): (place, None) for place in low}
    if found.win_rate >= _TOLD_APART:
        for left, right, _ in photo_text.swapped(found):
            for own, other in ((left, right), (right, left)):
                doubted[int(found.rows[own])] = own, int(found.rows[other])
    if not doubted:
        return []
    looks = agreements(views, views.alike(near, images))
    usual = looks.lift * looks.chance
    others = []
    for row, (place, belongs) in doubted.items():
        fit, error = float(found.fit[place]), max(float(looks.error[row]), 1e-9)
        beyond = float(looks.share[row] - usual[row]) / error if looks.people[row] >= FEWEST else 0.0
        if beyond < _VOUCHED:
            taken = int(looks.people[row]), float(looks.share[row]), float(looks.chance[row]), float(usual[row])
            others.append(OtherPhoto(row, float(ndtr(-fit)), belongs, *taken, -fit - 0.2 * beyond))
    return sorted(others, key=lambda one: (-one.score, one.row))


@dataclass(frozen=True, eq=False)
class ImpressionCounts:
    """How often each item was shown, and how often it was then looked at or taken, each of shape (n,)."""

    shown: npt.NDArray[np.int64]
    taken: npt.NDArray[np.int64]


@dataclass(frozen=True)
class HiddenItem:
    """An item that sells less than what is like it, or ``wanted``: that is taken more often where it is shown.

    ``takes`` and ``others``: how many people took it, and the median of what it is most like, of which ``better`` were
    taken by at least five times as many; ``shown`` the same of how
    often they were shown, and ``rate`` of how often that led to something; None where it is not known.
    """

    row: int
    wanted: bool
    takes: int
    others: float
    better: int
    shown: tuple[int, float] | None
    rate: tuple[float, float] | None
    score: float


def hidden_items(views: Views, alike: Rows, exposure: ImpressionCounts | None) -> list[HiddenItem]:
    """Items that may deserve to be shown more, the surest first, by the rows that each is most like."""
    found = _unsold(views, alike, exposure)
    if exposure is not None:
        known = {one.row for one in found}
        found += [one for one in _wanted(views, alike, exposure) if one.row not in known]
    return sorted(found, key=lambda one: (-one.score, one.row))


def _unsold(views: Views, alike: Rows, exposure: ImpressionCounts | None) -> list[HiddenItem]:
    logs = np.log1p(views.takes)
    able = _settled(views) & (alike[:, -1] >= 0)
    if able.sum() < 2:
        return []
    around = logs[np.maximum(alike, 0)].mean(axis=1)
    if np.std(logs[able]) * np.std(around[able]) == 0 or np.corrcoef(logs[able], around[able])[0, 1] < _TELLING_SALES:
        return []
    below = logs - around
    middle = float(np.median(below[able]))
    spread = 1.4826 * float(np.median(np.abs(below[able] - middle)))
    distance = (middle - below) / np.sqrt(spread**2 + 1 / (views.takes + 1.0))
    found = []
    for row in np.flatnonzero(able & (distance > _FAR)).tolist():
        takes = _takes(views, row, alike)
        shown = None if exposure is None else _both(exposure.shown, row, alike)
        if takes[2] >= _MOST_SOLD * alike.shape[1] and (shown is None or shown[0] < _RARELY * shown[1]):
            found.append(HiddenItem(row, False, *takes, shown, None, float(distance[row])))
    return found


def _wanted(views: Views, alike: Rows, exposure: ImpressionCounts) -> list[HiddenItem]:
    low = _at_least(exposure.taken, exposure.shown)
    near = np.maximum(alike, 0)
    known = (alike >= 0).astype(np.int64)
    others = (exposure.taken[near] * known).sum(axis=1) / np.maximum((exposure.shown[near] * known).sum(axis=1), 1)
    able = (exposure.shown >= _SHOWN) & (low > _TIMES * others) & (alike[:, -1] >= 0)
    found = []
    for row in np.flatnonzero(able).tolist():
        shown = _both(exposure.shown, row, alike)
        if shown[0] < _RARELY * shown[1]:
            rate = float(exposure.taken[row] / exposure.shown[row]), float(others[row])
            score = _FAR + float(np.log(low[row] / max(others[row], 1e-6)))
            found.append(HiddenItem(row, True, *_takes(views, row, alike), shown, rate, score))
    return found


def _settled(views: Views) -> Mask:
    """Which items were there before the last tenth of the log, so that people had time to take them."""
    known = views.since[views.since > 0]
    if not len(known):
        return np.asarray(views.takes > 0)
    first, last = int(known.min()), views.until
    return np.asarray((views.since > 0) & (views.since < last - _NEW * (last - first)))


def _takes(views: Views, row: int, alike: Rows) -> tuple[int, float, int]:
    """How many people took an item, the median of what it is most like, and how much of that was taken far more."""
    own, others = int(views.takes[row]), views.takes[alike[row]]
    return own, float(np.median(others)), int((others >= _TIMES_MORE * max(own, 1)).sum())


def _both(counts: npt.NDArray[np.int64], row: int, alike: Rows) -> tuple[int, float]:
    return int(counts[row]), float(np.median(counts[alike[row]]))


def _at_least(hits: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Numbers:
    """The lower end of Wilson's interval of a share, with 95 %."""
    n = np.maximum(of, 1).astype(np.float64)
    share, square = np.minimum(hits, n) / n, _SURE_OF_SALES**2
    half = _SURE_OF_SALES * np.sqrt(share * (1 - share) / n + square / (4 * n**2))
    low: Numbers = (share + square / (2 * n) - half) / (1 + square / n)
    return low


@dataclass(frozen=True)
class Witness:
    """Why something is thought, by the name of a sentence and what is told in it."""

    name: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Disagreement:
    """An item about which two views disagree; ``row`` is that of the generation, ``score`` orders those of one kind."""

    row: int
    kind: Kind
    score: float
    evidence: tuple[Witness, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Disagreement":
        """The inverse of :meth:`to_dict`."""
        evidence = tuple(Witness(one["name"], one["numbers"]) for one in told["evidence"])
        return cls(told["row"], told["kind"], told["score"], evidence)


@dataclass(frozen=True, eq=False)
class Judged:
    """What two views say of each other: ``agree`` of each item, the categories if any, and where they disagree."""

    agree: Agreements
    categories: Categories | None
    found: tuple[Disagreement, ...]


def judged(views: Views, fields: Mapping[str, Sequence[object]], exposure: ImpressionCounts | None = None) -> Judged:
    """Compare the views of all items.

    Args:
        views: The views.
        fields: What each item has in the fields that may group them: a value, a list of them, or None.
        exposure: How often items were shown, where that is known.
    """
    near = int(np.clip(len(views) * _SHARE, _FEWEST, _MANY))
    alike = views.alike(near)
    agree, closest = agreements(views, alike), alike[:, :NEAR]
    categories = chosen(fields, closest)
    others = [] if categories is None else other_categories(views, categories, closest)
    strays = [_category(views, one) for one in others]
    explained = {one.row for one in strays}  # words that name a wrong category do not go with the photo either
    photos = [_photo(views, one) for one in other_photos(views, near) if int(views.rows[one.row]) not in explained]
    explained |= {one.row for one in photos}
    rest = [one for one in _apart(views, agree) if one.row not in explained]
    hidden = [_hidden(views, one) for one in hidden_items(views, closest, exposure)]
    kept = [one for kind in (photos, strays, hidden, rest) for one in kind[:LONGEST]]
    return Judged(agree, categories, tuple(kept))


def _photo(views: Views, one: OtherPhoto) -> Disagreement:
    told = [Witness("photo.words", {"share": one.better})]
    if one.belongs is not None:
        told = [Witness("photo.exchanged", {"row": int(views.rows[one.belongs])})]
    if one.people:
        company = {"people": one.people, "share": one.share, "chance": one.chance, "usual": one.usual}
        told.append(Witness("photo.company", company))
    return Disagreement(int(views.rows[one.row]), "photo", one.score, tuple(told))


def _category(views: Views, one: OtherCategory) -> Disagreement:
    names = {"own": one.own, "other": one.other}
    told = [Witness("category.alike", {"votes": one.votes[0], "own_votes": one.votes[1], "of": NEAR, **names})]
    shares = {"share": one.share[0], "usual": one.usual[0], "usual_own": one.usual[1]}
    company = "category.company" if one.agreed else "category.company_silent"
    told.append(Witness(company, {"people": one.people, **shares, **names}))
    return Disagreement(int(views.rows[one.row]), "category", one.score, tuple(told))


def _hidden(views: Views, one: HiddenItem) -> Disagreement:
    told = [Witness("hidden.takes", {"takes": one.takes, "others": one.others, "better": one.better, "of": NEAR})]
    if one.rate is not None:
        told = [Witness("hidden.rate", {"rate": one.rate[0], "others": one.rate[1]})]
    if one.shown is not None:
        told.append(Witness("hidden.shown", {"shown": one.shown[0], "others": one.shown[1]}))
    else:
        told.append(Witness("hidden.unknown", {}))
    return Disagreement(int(views.rows[one.row]), "hidden", one.score, tuple(told))


def _apart(views: Views, agree: Agreements) -> list[Disagreement]:
    """Items with which people take what is alike hardly more than by chance, the surest first."""
    rows: Rows = np.flatnonzero(agree.known & (agree.high < _APART))
    width = np.maximum(agree.high - agree.low, 1e-9)
    usual = agree.lift * agree.chance
    found = []
    for row in rows.tolist():
        shares = {"share": agree.share[row], "chance": agree.chance[row], "usual": usual[row]}
        numbers = {"people": int(agree.people[row]), **{name: float(value) for name, value in shares.items()}}
        score = float((_APART - agree.level[row]) / width[row])
        found.append(Disagreement(int(views.rows[row]), "apart", score, (Witness("apart.company", numbers),)))
    return sorted(found, key=lambda one: (-one.score, one.row))
