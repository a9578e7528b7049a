"""Cold-start items: vectors predicted from content, their slots among the first ten, and low-support items."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.base import unit
from molar_retrieval.ids import IdMap
from molar_retrieval.models.base import taught_by
from molar_retrieval.models.blending import Dense, EnsembleWeights, blend
from molar_retrieval.models.content_knn import ContentKNN
from molar_retrieval.models.ensemble import Encoded, Ensemble, of_some
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.towers.inference import CONTENT_KNN, POPULARITY
from molar_retrieval.models.towers.training import TrainingData
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks, taken, withheld_items
from molar_retrieval.models.vectors import ItemVectors, Predictor, item_sides
from molar_retrieval.ranking.item_store import LowSupportItems
from molar_retrieval.ranking.objectives import NEXT_ITEM, TOP, Objective, Slots, last
from molar_retrieval.ranking.query import Exploration
from molar_retrieval.workspace.settings import AlignSettings, ExplorationSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Ranks, Rows

Moments = npt.NDArray[np.float64]
_MOST = 100_000
_BLOCK = 4096
_HISTORIES = 1.0
_ITEMS = 0.1


def content_pairs(log: Interactions, neighbours: ContentKNN, seed: int = 0) -> Matrix | None:
    """M of at most 100,000 interactions of a log, shape (dim, dim); None where none comes after another.

    Items are regarded, and histories read, as ``neighbours`` do.
    """
    follows = np.ones(len(log), bool)
    follows[log.offsets[:-1][np.diff(log.offsets) > 0]] = False
    rows = np.flatnonzero(follows)
    if not len(rows):
        return None
    if len(rows) > _MOST:
        rows = np.sort(rng.generator(seed, "content pairs").choice(rows, _MOST, replace=False))
    items, dim = neighbours.items, neighbours.dim
    average = items[log.item[rows]].mean(axis=0)
    users, taken = np.zeros((dim, dim)), np.zeros((dim, dim))
    for begin in range(0, len(rows), _BLOCK):
        some = rows[begin : begin + _BLOCK]
        before = unit(_latest(log, some, neighbours.decay, neighbours.last) @ items)
        users += before.T @ before
        taken += before.T @ (items[log.item[some]] - average)
    known, alike = np.flatnonzero(known_items(log)), np.zeros((dim, dim))
    for begin in range(0, len(known), _BLOCK):
        own = items[known[begin : begin + _BLOCK]].astype(np.float64)
        alike += own.T @ own
    left = np.linalg.solve(_shrunk(users / len(rows), _HISTORIES), taken / len(rows))
    pairs: Matrix = np.linalg.solve(_shrunk(alike / len(known), _ITEMS), left.T).T.astype(np.float32)
    return pairs


def _latest(log: Interactions, rows: Rows, decay: float, last: int) -> csr_matrix:
    """What came before each of the rows of a log, as :func:`~molar_retrieval.models.item_item.decayed` has it."""
    first = np.maximum(log.offsets[log.user[rows]], rows - last)
    bounds = np.concatenate([[0], np.cumsum(rows - first)])
    slots = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], rows - first)
    weights = np.power(decay, np.repeat(rows, rows - first) - 1 - slots).astype(np.float32)
    return csr_matrix((weights, log.item[slots], bounds), shape=(len(rows), log.n_items))


def _shrunk(moments: Moments, strength: float) -> Moments:
    """Second moments with so many times their mean variance more along each axis; any where all are 0."""
    variance = float(np.trace(moments)) / len(moments)
    return moments + (strength * variance or 1.0) * np.eye(len(moments))


_ENOUGH = 300
"""Validation cases from which the weights of cold-start items can be told."""
_REGULARISATIONS = (1.0, 10.0, 100.0)
_PAIRS = "pairs"
"""What the component content_knn is by pairs of contents, while its weight is looked for."""
_PRIOR = 5.0
"""Interactions at which an item counts half in the regression."""
_BESIDE = 0.5
"""How far scores by guessed blocks of a tower spread, where cases cannot weigh them, against all others'. On hm, with
15 % of the items withheld, .25 to 1 of the others' summed spreads was as good, two seeds (docs/method.md)."""
_SOME = 500
"""Cases by which that is measured."""
_AT_ONCE = 1 << 14
"""Items whose moments are summed at a time."""
Sums = npt.NDArray[np.float64]
_MOST_LOST = 0.01
"""Share of NDCG@10 of known items that places further up may cost."""


def with_cold_start(
    model: Ensemble,
    data: TrainingData,
    settings: AlignSettings,
    blended: EnsembleWeights,
    encoded: Encoded | None = None,
) -> tuple[Ensemble, Ranks, EnsembleWeights]:
    """Give items without interactions weights of their own, and as many of ten places as validation bears.

    ``auto`` starts from parity, the cold-start items' share of the catalogue, and takes places away while what ships
    would rank the validation cases worse than its best part alone; if none are left to take, other weights are tried.
    They are the last places, or :func:`higher` ones where what ships is still no worse than that part.

    The weights of ``model`` are not looked at; ``fusion`` says how the parts rank the validation cases, ``encoded``
    are the vectors of who is asked in these, if they were made before. Returned are what ships, how it ranks these
    cases, and the fusion whose weights it has.
    """
    weights, predictors, among_them = _learned(model, data, settings)
    model = replace(model, cold_start_weights=weights, predictors=predictors)
    if settings.cold_start_share != "auto":
        choices = [round(10 * settings.cold_start_share)]
    else:
        choices = list(range(fair_share(~model.known) if any(weights.values()) else 0, -1, -1))
    floor = max(map(ndcg, blended.alone.values()), default=0.0)
    tried: list[tuple[Ensemble, Ranks, EnsembleWeights]] = []
    used: EnsembleWeights | None = blended
    while used is not None:
        for count in choices:
            shipped = replace(model, weights=used.weights, slots=last(count))
            found = model_ranks(shipped, data.cases, encoded)
            if ndcg(found) < floor:
                tried.append((replace(shipped), found, used))  # without all vectors of items, which it keeps
                continue
            slots = choose_slots(found[model.known[data.cases.targets]], among_them, count)
            if slots == shipped.slots:
                return shipped, found, used
            moved = replace(shipped, slots=slots)
            moved_ranks = model_ranks(moved, data.cases, encoded)
            return (shipped, found, used) if ndcg(moved_ranks) < floor else (moved, moved_ranks, used)
        used = used.fallback
    return max(tried, key=lambda one: ndcg(one[1]))


def choose_slots(known: Ranks, cold: Ranks, count: int) -> Slots:
    """Which of the first ten places ``count`` cold-start items get, the last of which is the tenth.

    Those at which they are found best, as NDCG@10, of all that cost known items little against the last places. These
    are the answer where there are few cases of either kind, or known items are never found.

    Args:
        known: Ranks of known targets, shape (C,), in lists whose last places cold-start items have.
        cold: Ranks among themselves of targets that play cold-start items, shape (D,).
        count: How many places there are, 0 to 9.
    """
    if count < 2 or min(len(known), len(cold)) < _ENOUGH:
        return last(count)
    gain = 1 / np.log2(1.0 + np.arange(1, TOP + 1))
    found = [np.bincount(ranks[ranks <= n], minlength=n + 1)[1:] for ranks, n in ((known, TOP - count), (cold, count))]

    def worth(slots: Slots) -> tuple[float, float]:
        others = np.setdiff1d(np.arange(1, TOP + 1), slots)
        return float(found[0] @ gain[others - 1]), float(found[1] @ gain[np.array(slots) - 1])

    most, _ = worth(last(count))
    choices = {(*others, TOP): worth((*others, TOP)) for others in combinations(range(2, TOP), count - 1)}
    borne = [slots for slots, (left, _) in choices.items() if left >= (1 - _MOST_LOST) * most]
    return max(borne, key=lambda slots: (choices[slots][1], slots)) if most else last(count)


def model_ranks(
    model: Ensemble, cases: ValidationCases, encoded: Encoded | None = None, objective: Objective = NEXT_ITEM
) -> Ranks:
    """Ranks of the cases' targets by what ships; ``encoded`` are the vectors of who is asked, if they were made.

    The second stage, if there is one, moves lists of the default aim.
    """

    def scores(block: slice) -> Matrix:
        log, allowed = cases.histories(block), ~cases.hidden(block)
        users = model.users(log, np.arange(log.n_users), encoded=of_some(encoded, block))
        found = model.lifted(model.scores_of(users, log, objective), allowed, objective)
        return model.reranked(found, allowed, users, log) if objective == NEXT_ITEM else found

    return ranks(cases, scores)


def _learned(
    model: Ensemble, data: TrainingData, settings: AlignSettings
) -> tuple[Mapping[str, float], Mapping[str, Predictor], Ranks]:
    """Weights of the parts among cold items, what predicts the blocks of these, and the ranks of those who play them.

    Validation cases tell the weights. Where few of them have a target that plays newcomer, training interactions do,
    but not that of the ID tower: it was trained on them, and would be thought better than it is. It gets a
    fixed share then, as a guess holds where the table started from content.
    """
    seed = settings.seed
    withheld = withheld_items(model.known, seed)
    counts = np.bincount(data.log.item, minlength=data.log.n_items)
    sides = item_sides(model.network, model.known)
    asked, told = data.cases.select(np.flatnonzero(withheld[data.cases.targets])), True
    if len(asked) < _ENOUGH:
        asked, told = replace(taken(data.log, withheld, seed), folder=data.cases.folder), False
    items, predictors = {}, {}
    learned = {name: side for name, side in sides.items() if name != "content_tower"}
    for name, side in {POPULARITY: np.log1p(counts).astype(np.float32)[:, None], **learned}.items():
        items[name], predictors[name] = guessed(data.features, side, counts, model.known, withheld)
    beside = {} if told else {name: items.pop(name) for name in learned}
    if "content_tower" in sides:
        items["content_tower"] = sides["content_tower"][withheld]
    neighbours = model.content_knn
    if neighbours is not None:
        others = data.log.select(~withheld[data.log.item])
        neighbours = taught_by(neighbours, data.features, others, model.least)
        items |= _compared(neighbours, others, withheld, seed)
    if not len(asked):
        return dict.fromkeys((items | beside).keys() - {_PAIRS}, 0.0), predictors, np.zeros(0, np.int64)
    users = dict(model.users_by_part(asked.histories(), np.arange(len(asked))))
    if neighbours is not None:
        users[CONTENT_KNN] = neighbours.users(asked.histories())
    parts = {name: Dense(users[CONTENT_KNN if name == _PAIRS else name], side) for name, side in items.items()}
    fused = blend(among(asked, withheld), parts, seed)
    weights = dict(fused.weights)
    for name, side in beside.items():
        weights[name] = _share_beside(Dense(users[name], side), parts, fused.weights)
    if model.content_knn is not None and (of_pairs := weights.pop(_PAIRS, 0.0)):
        pairs, own = content_pairs(data.log, model.content_knn, seed), weights[CONTENT_KNN]
        assert pairs is not None  # there were some without the withheld items
        weights[CONTENT_KNN], predictors[CONTENT_KNN] = _both(pairs, own, of_pairs)
    return weights, predictors, fused.ranks


def _share_beside(guess: Dense, parts: Mapping[str, Dense], weights: Mapping[str, float]) -> float:
    """A weight by which scores of a guess spread as far over the items as is set, against the sum of the parts."""
    some = np.linspace(0, len(guess.users), min(_SOME, len(guess.users)), endpoint=False, dtype=np.int64)
    total = sum(np.float32(weights[name]) * part.scores(some) for name, part in parts.items())
    spread, others = (float(np.std(scores, axis=1).mean()) for scores in (guess.scores(some), total))
    return _BESIDE * others / spread if spread else 0.0


def _compared(neighbours: ContentKNN, log: Interactions, withheld: Mask, seed: int) -> dict[str, Matrix]:
    """What histories are compared with for the withheld items: their content, and its neighbors by a log of others."""
    content, pairs = neighbours.items[withheld], content_pairs(log, neighbours, seed)
    return {CONTENT_KNN: content} | ({} if pairs is None else {_PAIRS: content @ pairs.T})


def _both(pairs: Matrix, own: float, of_pairs: float) -> tuple[float, Predictor]:
    """The weight of content, and one map for content as it is and by ``pairs``, which have the other weight."""
    weight = own or of_pairs
    matrix = (own * np.eye(len(pairs)) + of_pairs * pairs.T) / weight
    return weight, Predictor(matrix.astype(np.float32), np.zeros(len(pairs), np.float32))


@dataclass(frozen=True)
class RidgeSums:
    """What ridge regression reads of some items, those that people took often counting more; sums of items add up.

    Of f features and d numbers to be told: Σ w x xᵀ, shape (f, f), Σ w x yᵀ, (f, d), Σ w x, Σ w y and Σ w, float64.
    """

    products: Sums
    told: Sums
    given: Sums
    wanted: Sums
    weight: float

    @classmethod
    def of(cls, features: Matrix, vectors: Matrix, counts: npt.NDArray[np.integer], rows: Rows) -> Self:
        """Of the items at some rows; ``counts`` are the training interactions of all items, shape (n_items,)."""
        (_, f), (_, d) = features.shape, vectors.shape
        products, told, given, wanted, total = np.zeros((f, f)), np.zeros((f, d)), np.zeros(f), np.zeros(d), 0.0
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            x, y = features[some].astype(np.float64), vectors[some].astype(np.float64)
            weight = counts[some] / (counts[some] + _PRIOR)
            weighted = x * weight[:, None]
            products += weighted.T @ x
            told += weighted.T @ y
            given += weighted.sum(axis=0)
            wanted += weight @ y
            total += float(weight.sum())
        return cls(products, told, given, wanted, total)

    def __add__(self, others: Self) -> Self:
        return type(self)(
            self.products + others.products, self.told + others.told, self.given + others.given,
            self.wanted + others.wanted, self.weight + others.weight,
        )  # fmt: skip

    def ridge(self, regularisation: float) -> Predictor:
        """The map of least squares from features to the numbers about their mean, with a penalty λ."""
        mean = self.wanted / max(1e-12, self.weight)
        shrunk = self.products + regularisation * np.eye(len(self.given))
        matrix = np.linalg.solve(shrunk, self.told - np.outer(self.given, mean))
        return Predictor(matrix.astype(np.float32), mean.astype(np.float32))


def guessed(
    features: Matrix, vectors: Matrix, counts: npt.NDArray[np.integer], known: Mask, withheld: Mask
) -> tuple[Matrix, Predictor]:
    """What the others tell of the withheld items, shape (w, d), and the map by the best λ, fitted on all known ones.

    All arrays are of all items: features (n_items, f), vectors (n_items, d), and, of shape (n_items,) each, the
    training interactions, which items have any, and which of these are not to tell of themselves.
    """
    rest, own = (
        RidgeSums.of(features, vectors, counts, np.flatnonzero(some)) for some in (known & ~withheld, withheld)
    )
    given, wanted, weight = features[withheld], vectors[withheld], (counts / (counts + _PRIOR))[withheld]
    tried: dict[float, tuple[float, Matrix]] = {}
    for regularisation in _REGULARISATIONS:
        guess = rest.ridge(regularisation)(given)
        tried[regularisation] = float((((wanted - guess) ** 2).sum(axis=1) * weight).sum()), guess
    best = min(tried, key=lambda regularisation: tried[regularisation][0])
    return tried[best][1], (rest + own).ridge(best)


def among(cases: ValidationCases, items: Mask) -> ValidationCases:
    """The cases of a catalogue of only some ``items``, shape (n_items,), all targets among them, in their order."""
    histories, place, count = cases.histories(), np.cumsum(items) - 1, int(items.sum())
    had = histories.select(items[histories.item])
    log = replace(had, items=IdMap.numbered(count), item=place[had.item].astype(np.int32))
    numbers, everything = np.arange(len(cases)), np.ones(count, bool)
    return ValidationCases(log, numbers, place[cases.targets], everything, cases.times, folder=cases.folder)


def fair_share(newcomer: Mask, most: int = 3) -> int:
    """How many of ten places cold items would have if their chances were those of known items, ``most`` at the most."""
    return min(most, round(10 * float(newcomer.mean()))) if len(newcomer) else 0


_LAST = 4.0
"""An item with so many times the evidence is no longer tried."""
_ASKED = 200
"""People whose scores tell the spread; it differs little between people."""


def exploration(
    model: Ensemble, items: ItemVectors, log: Interactions, settings: ExplorationSettings
) -> tuple[Exploration, LowSupportItems | None]:
    """How cold-start and low-support items are explored; ``items`` are the model's, ``log`` is all of the log."""
    counts = np.bincount(log.item, minlength=log.n_items)
    rows = np.flatnonzero(model.known & (counts < _LAST * settings.prior_strength))
    prior = settings.prior_strength / (counts[rows] + settings.prior_strength)
    dense = posterior(model, rows, prior)
    scale = settings.temperature * _spread(model, log, np.concatenate([items.dense[items.newcomer], dense]))
    dense[:, -1] += scale * np.log(prior * (1 - counts[rows] / (_LAST * settings.prior_strength)))
    least = 1 if settings.slots is None else settings.slots
    slots = model.slots if len(model.slots) >= least else last(least)
    if not len(rows) and not items.newcomer.any():
        slots = ()
    return Exploration(slots, float(scale)), LowSupportItems(rows, dense) if len(rows) else None


def posterior(model: Ensemble, rows: Rows, prior: npt.NDArray[np.floating]) -> Matrix:
    """Vectors of E known items among cold items, shape (E, d); ``prior`` is the share of the guess in each, (E,)."""
    popularity = model.predictors.get(POPULARITY)
    usual = np.full((len(model.known), 1), 0 if popularity is None else popularity.mean, np.float32)
    sides = {**item_sides(model.network, model.known), POPULARITY: usual}
    if model.content_knn is not None:
        sides[CONTENT_KNN] = model.content_knn.items
    sides |= {one.name: one.items for one in model.own}
    blocks, guess = [], prior.astype(np.float32)[:, None]
    for part in model.dense_parts:
        block = sides[part.name][rows]
        if part.name == CONTENT_KNN:  # content is no guess
            block = model.guesses(part.name, sides[part.name], rows)
        elif part.name in model.predictors and part.name != POPULARITY:
            block = guess * model.guesses(part.name, sides[part.name], rows) + (1 - guess) * block
        blocks.append(block * np.float32(model.cold_start_weights.get(part.name, 0.0)))
    return np.concatenate(blocks, axis=1)


def _spread(model: Ensemble, log: Interactions, dense: Matrix) -> float:
    """The standard deviation of the items' scores for a person, the mean over some people; 1 where all are alike."""
    people = np.flatnonzero(np.diff(log.offsets))
    if len(people) > _ASKED:
        people = np.sort(rng.generator(0, "spread of newcomers").choice(people, _ASKED, replace=False))
    if not len(people) or not len(dense):
        return 1.0
    scores = model.users(log, people).dense @ dense.T
    return float(scores.std(axis=1).mean()) or 1.0
