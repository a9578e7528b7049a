"""Fitting models with settings that validation chooses: the search, and the grids of the count-based models."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models import ease as linear
from molar_retrieval.models.blending import Counted, Dense, PopularityAt, ScoreComponent
from molar_retrieval.models.content_knn import GRID, ContentKNN, compressed, learned_axes
from molar_retrieval.models.ease import BlockEASE
from molar_retrieval.models.item_item import (
    MOST_PAIRS,
    InteractionMatrix,
    ItemItemWeights,
    countable,
    known_items,
    many_pairs,
    reach,
    strongest,
)
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.popularity import HALF_LIVES, Popularity
from molar_retrieval.models.sequential import TransitionRegression, TransitionsInBlocks, cooccurrence
from molar_retrieval.models.sequential import count_transitions as followed
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks, sample, taken
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Matrix, Rows

Setting = Mapping[str, Any]
T = TypeVar("T")
Scoring = Callable[[Interactions], Matrix]
"""Scores of all items for histories, shape (n_histories, n_items)."""
CountModel = ItemItemWeights | ContentKNN | Popularity
_Grid = tuple[Sequence[tuple[Setting, Callable[[], CountModel]]], str | None]
"""Settings with what fits them, and what was left out, in words."""


@dataclass(frozen=True)
class Readers:
    """People by whom content kNN is chosen, ``judge`` giving the NDCG@10 of a way to score.

    Meanwhile content is taught by the log of all ``others`` alone.
    """

    judge: Callable[[Scoring], float]
    others: Interactions


COOCCURRENCE, REGRESSION, EASE, BLOCK_EASE, ITEM_KNN = "co-occurrence", "regression", "EASE", "block EASE", "item-kNN"
"""Kinds of item-item models, by which a setting names them."""
SEQUENTIAL, EASE_MODEL, ITEM_KNN_MODEL, CONTENT_KNN, POPULARITY = NAMES = (
    "sequential",
    "ease",
    "item_knn",
    "content_knn",
    "popularity",
)
"""The count-based models, as settings and score components name them."""
ITEM_ITEM = (EASE_MODEL, ITEM_KNN_MODEL)
"""Of these the better one is kept."""
COUNTS: tuple[Setting, ...] = (
    {"window": 10, "decay": 0.9, "fade": 0.3, "shrink": 20, "memory": 0.8, "ordered": True},
    {"window": 20, "decay": 0.95, "fade": 0.3, "shrink": 20, "memory": 0.9, "ordered": True},
    {"window": 20, "decay": 0.95, "fade": 0.3, "shrink": 5, "memory": 0.95, "ordered": False},
)
"""Of co-occurrence, from what follows at once to what is taken in the same weeks."""
REGRESSIONS: tuple[Setting, ...] = (
    {"window": 20, "decay": 0.8, "fade": 0.3, "regularisation": 300, "damping": 0.15},
    {"window": 30, "decay": 0.9, "fade": 0.3, "regularisation": 1000, "damping": 0.0},
)
REGULARISATIONS = (500, 100, 2000)
BLOCKS: tuple[Setting, ...] = (
    {"regularisation": 500, "n_neighbors": 1000},
    {"regularisation": 100, "n_neighbors": 1000},
    {"regularisation": 2000, "n_neighbors": 1000},
    {"regularisation": 500, "n_neighbors": 500},
)
"""Of EASE in blocks, where there are too many items for one matrix …"""
MANY_ITEMS = 100_000
"""… the first one alone from so many items, as each takes minutes."""
NEIGHBOURS: Setting = {"weighting": "tfidf", "shrink": 20, "n_neighbors": 200}
EASE_FUTURE = "ease_future"
"""EASE once more, for all that people take later …"""
FUTURE_REGULARISATIONS = (500, 4000, 32_000, 256_000)
"""… tried in this order until validation asks for no more, with as many neighbors of an item as make …"""
_FUTURE_WEIGHTS, _FUTURE_NEIGHBORS = 4_000_000, 1000
"""… so many weights in all, at most so many of one, and no fewer than other count-based models keep."""


def tune(
    candidates: Iterable[tuple[Setting, Callable[[], T]]],
    judge: Callable[[T], float],
    keep: Callable[[T], T] = lambda fitted: fitted,
) -> tuple[T, Setting, list[dict[str, Any]]]:
    """Fit one candidate after the other and ``keep`` that of the highest validation NDCG@10, the first of equals.

    It comes with its setting, and for the record each ``setting`` with its ``ndcg@10`` and the ``seconds`` of fitting
    and judging, in their order. Without candidates: ValueError.
    """
    best: tuple[float, Setting, T] | None = None
    tried: list[dict[str, Any]] = []
    for setting, fit in candidates:
        began = time.perf_counter()
        fitted = fit()
        score = judge(fitted)
        seconds = round(time.perf_counter() - began, 2)
        tried.append({"setting": dict(setting), "ndcg@10": round(score, 6), "seconds": seconds})
        if best is None or score > best[0]:
            best = score, setting, keep(fitted)
        del fitted
    if best is None:
        raise ValueError("the grid is empty")
    return best[2], best[1], tried


def fit_count_models(
    log: Interactions,
    judge: Callable[[Scoring], float],
    count: int,
    names: Sequence[str] = (SEQUENTIAL, *ITEM_ITEM),
    progress: Progress = SILENT,
    features: Matrix | None = None,
    least: int = 1,
    *,
    blocks: bool = True,
    folder: Path | None = None,
    readers: Readers | None = None,
) -> tuple[tuple[CountModel, ...], dict[str, dict[str, Any]]]:
    """Fit the named count-based models on at least one interaction, each with the settings that rank validation best.

    Of ``ease`` and ``item_knn`` the better one is kept, and gives its name.

    ``judge`` gives the validation NDCG@10 of a way to score; a constant without cases, and the first setting stays.
    Item-item weights are judged with as few entries per item, ``count``, as will be kept: by what ships. Content
    neighbours need conditioned content of all items, shape (n_items, f); ``readers`` choose their settings, None:
    ``judge``, and all people teach them then. No pair and no item's popularity rests on fewer people than ``least``.
    Without ``blocks`` EASE is left out where it would be made in blocks, which takes minutes; large weights are mapped
    from files without a name in ``folder``, None: in memory. The models come in the order of ``names``, and with them,
    by name, what was ``chosen`` and ``tried``, with a ``note`` where something was left out.
    """
    readers = readers or Readers(judge, log)
    few = KAnonymity.of(countable(log), least) if {SEQUENTIAL, *ITEM_ITEM} & {*names} else None
    if few is not None:
        progress.note(
            f"{few.share:.1%} of item pairs are left out: fewer than {least} users had them ([privacy] min_users)"
        )
    grids: dict[str, Callable[[], _Grid]] = {
        SEQUENTIAL: lambda: _sequences(log, count, few, folder),
        EASE_MODEL: lambda: _item_item(log, count, few, blocks, folder, names),
        CONTENT_KNN: lambda: _content(features, readers.others, least),
        POPULARITY: lambda: _trend(log, least),
    }

    def judged(model: CountModel) -> float:
        score = (readers.judge if isinstance(model, ContentKNN) else judge)(model.scores)
        progress.advance()
        return score

    def kept(model: CountModel) -> CountModel:
        return model.outside(folder) if folder is not None and isinstance(model, ItemItemWeights) else model

    fitted, report = [], {}
    for name in dict.fromkeys(EASE_MODEL if name in ITEM_ITEM else name for name in names):
        candidates, note = grids[name]()
        progress.start(f"counting {name}", len(candidates))
        best, setting, tried = tune(candidates, judged, kept)
        if isinstance(best, ContentKNN) and features is not None:
            best = taught_by(best, features, log, least)
        fitted.append(best)
        own = best.name if isinstance(best, ItemItemWeights) else name
        report[own] = {"chosen": dict(setting), "tried": tried}
        if note:
            report[own]["note"] = note
            progress.note(note)
        progress.finish()
    return tuple(fitted), report


def _content(features: Matrix | None, others: Interactions, least: int) -> _Grid:
    """Each way to read a history: by content as others than the judges taught it, where enough did, and as it is."""
    if features is None:
        raise ValueError("content neighbours need features")
    axes = learned_axes(features, others, least)
    found: list[tuple[Setting, Callable[[], CountModel]]] = []
    for own in [None] if axes is None else [axes, None]:
        of = partial(ContentKNN, compressed(features, own), axes=own)
        for way in GRID:
            make = partial(of, decay=float(way["decay"]), last=int(way["last"]))
            found.append(({**way, "taught": own is not None}, make))
    return found, None


def taught_by(neighbours: ContentKNN, features: Matrix, log: Interactions, least: int = 1) -> ContentKNN:
    """Content neighbours as another log teaches them; as they are where nobody did."""
    if neighbours.axes is None:
        return neighbours
    axes = learned_axes(features, log, least)
    return replace(neighbours, items=compressed(features, axes), axes=axes)


def _trend(log: Interactions, least: int) -> _Grid:
    sorted_once = cache(partial(Popularity.fit, log, np.inf, least))

    def fitted(days: float) -> Popularity:
        return replace(sorted_once(), half_life=days)

    settings = [(days, {"half_life": days if np.isfinite(days) else None}) for days in HALF_LIVES]
    return [(setting, partial(fitted, days)) for days, setting in settings], None


def _sequences(log: Interactions, count: int, few: KAnonymity | None, folder: Path | None) -> _Grid:
    """The regression where it can be had, with the counts that it does not know: of either order; else all counts."""
    counted = lru_cache(maxsize=1)(partial(followed, log))

    def fitted(setting: Setting) -> ItemItemWeights:
        return sequence(log, counted(*order(setting)), setting, count, few, folder)

    counts: list[Setting] = [{"model": COOCCURRENCE, **setting} for setting in COUNTS]
    regressions: list[Setting] = [{"model": REGRESSION, **setting} for setting in REGRESSIONS]
    note = too_many("the regression", log)
    chosen = counts if note else [*regressions, counts[-1]]
    if many_pairs(log, max(setting["window"] for setting in chosen)):
        note = _and(note, f"pairs are counted in blocks of items: there may be more than {MOST_PAIRS:,}")
    return [(setting, partial(fitted, setting)) for setting in chosen], note


def order(setting: Setting) -> tuple[int, float, float]:
    """Window, decay and time decay of the transitions that the ``sequential`` model counts."""
    return int(setting["window"]), float(setting["decay"]), float(setting["fade"])


def sequence(
    log: Interactions,
    followed: csr_matrix | TransitionsInBlocks,
    setting: Setting,
    count: int,
    few: KAnonymity | None = None,
    folder: Path | None = None,
) -> ItemItemWeights:
    """The sequential model of a setting over a log; ``followed`` are its transitions with the setting's :func:`order`.

    Pairs of ``few`` are left out; large weights are mapped from files in ``folder``, None: in memory.
    """
    if setting["model"] == COOCCURRENCE:
        shrink, ordered, memory = setting["shrink"], setting["ordered"], setting["memory"]
        if isinstance(followed, TransitionsInBlocks):
            own = followed.strongest(shrink, ordered, count, few, folder)
        else:
            own = strongest(_shared(cooccurrence(log, followed, shrink, ordered), few), count)
        return ItemItemWeights(SEQUENTIAL, own, memory, reach(memory), order(setting)[2])
    if isinstance(followed, TransitionsInBlocks):
        followed = followed.between(np.flatnonzero(known_items(log)))
    decay = setting["decay"]
    model = TransitionRegression.of(log, followed, decay)
    weights = model.weights(setting["regularisation"], setting["damping"])
    own = strongest(weights if few is None else few.cleared(weights, model.columns), count)
    return ItemItemWeights(SEQUENTIAL, _spread(own, model.columns, log.n_items), decay, reach(decay), order(setting)[2])


def _item_item(
    log: Interactions, count: int, few: KAnonymity | None, blocks: bool, folder: Path | None, names: Sequence[str]
) -> _Grid:
    """EASE where it is named and can be had, whole or in blocks, all settings with the same counts; and item kNN.

    Where EASE alone is named, item kNN stands in for it on logs that are too large.
    """
    log = countable(log)
    gram = lru_cache(maxsize=1)(partial(linear.EASECounts.of, log))
    taken = lru_cache(maxsize=1)(partial(InteractionMatrix.of, log))
    grouped = lru_cache(maxsize=1)(lambda neighbours: BlockEASE.of(taken(), neighbours))

    def fitted(setting: Setting) -> ItemItemWeights:
        if setting["model"] == BLOCK_EASE:
            least = 1 if few is None else few.least
            return block_ease(grouped(setting["n_neighbors"]), setting, count, least, folder)
        return ease(gram(), setting, count, log.n_items, few)

    def neighbours() -> ItemItemWeights:
        return item_neighbours(log, NEIGHBOURS, count, few, folder)

    nearest: Setting = {"model": ITEM_KNN, **NEIGHBOURS}
    settings: list[Setting] = [{"model": EASE, "regularisation": value} for value in REGULARISATIONS]
    note = too_many(EASE, log)
    if EASE_MODEL not in names:
        settings, note = [], None
    elif blocks and in_blocks(log):
        known = int(known_items(log).sum())
        settings = [{"model": BLOCK_EASE, **setting} for setting in BLOCKS[: 1 if known >= MANY_ITEMS else None]]
        note = f"EASE is made in blocks: as one matrix it takes {linear.MAX_ITEMS:,} items at most, {known:,} are known"
    elif note:
        settings = []
    if many_pairs(log):
        note = _and(note, f"neighbours are counted in blocks of items: there may be more than {MOST_PAIRS:,} pairs")
    found: list[tuple[Setting, Callable[[], CountModel]]] = [(one, partial(fitted, one)) for one in settings]
    return [*found, *([(nearest, neighbours)] if ITEM_KNN_MODEL in names or not found else [])], note


def refit(
    name: str,
    log: Interactions,
    setting: Setting,
    count: int,
    few: KAnonymity | None = None,
    folder: Path | None = None,
    *,
    exact: bool = False,
) -> ItemItemWeights:
    """An item-item model by its chosen setting over another log; nothing is searched.

    Pairs of ``few`` are left out; large weights are mapped from files in ``folder``, None: in memory. Transitions are
    counted ``exact`` where the result is to ship.
    """
    if name == SEQUENTIAL:
        return sequence(log, followed(log, *order(setting), exact=exact), setting, count, few, folder)
    log = countable(log)
    if setting["model"] == EASE:
        return ease(linear.EASECounts.of(log), setting, count, log.n_items, few)
    if setting["model"] == BLOCK_EASE:
        blocks = BlockEASE.of(InteractionMatrix.of(log), setting["n_neighbors"])
        return block_ease(blocks, setting, count, 1 if few is None else few.least, folder)
    return item_neighbours(log, setting, count, few, folder)


def ease_future_settings(neighbors: int, n_items: int) -> list[Setting]:
    """What is tried as ``ease_future``, in its order, where others keep so many ``neighbors`` of an item."""
    most = max(neighbors, min(_FUTURE_NEIGHBORS, _FUTURE_WEIGHTS // max(1, n_items)))
    return [{"model": EASE, "regularisation": value, "neighbors": most} for value in FUTURE_REGULARISATIONS]


def ease(
    counts: linear.EASECounts, setting: Setting, neighbors: int, n_items: int, few: KAnonymity | None = None
) -> ItemItemWeights:
    """EASE (Steck 2019, doi:10.1145/3308558.3313710) without pairs of ``few``.

    A setting with ``neighbors`` of its own is that of the ``ease_future`` component.
    """
    weights = counts.weights(setting["regularisation"])
    name = EASE_FUTURE if "neighbors" in setting else EASE_MODEL
    own = strongest(
        weights if few is None else few.cleared(weights, counts.columns), setting.get("neighbors", neighbors)
    )
    return ItemItemWeights(name, _spread(own, counts.columns, n_items))


def block_ease(
    blocks: BlockEASE, setting: Setting, neighbors: int, least: int = 1, folder: Path | None = None
) -> ItemItemWeights:
    """The same by many small inverses, without pairs that fewer than ``least`` people had."""
    return ItemItemWeights(EASE_MODEL, blocks.weights(setting["regularisation"], neighbors, least, folder))


def item_neighbours(
    log: Interactions,
    setting: Setting,
    neighbors: int,
    few: KAnonymity | None = None,
    folder: Path | None = None,
) -> ItemItemWeights:
    """What goes together, by item neighbours, without those of ``few``."""
    own = {name: setting[name] for name in NEIGHBOURS}
    return ItemItemWeights(
        ITEM_KNN_MODEL, strongest(_shared(linear.item_knn(log, **own, folder=folder), few), neighbors)
    )


def too_many(model: str, log: Interactions) -> str | None:
    """What to say where a matrix of all items would have to be inverted, but is too large, or for too few users."""
    known, users = _known_and_users(log)
    if known > linear.MAX_ITEMS:
        return f"{model} was not tried: it takes {linear.MAX_ITEMS:,} items at most, {known:,} have interactions"
    if _dear(known, users):
        return (
            f"{model} was not tried: with {known:,} items it takes {known // linear.ITEMS_PER_USER:,} users or more "
            f"to be worth its price, {users:,} have interactions"
        )
    return None


def in_blocks(log: Interactions) -> bool:
    """Whether there are too many items for EASE as one matrix, and users enough for EASE in blocks."""
    known, users = _known_and_users(log)
    return known > linear.MAX_ITEMS and not _dear(known, users)


def _and(note: str | None, another: str) -> str:
    return another if note is None else f"{note}; {another}"


def _known_and_users(log: Interactions) -> tuple[int, int]:
    return int(known_items(log).sum()), int(np.count_nonzero(np.diff(log.offsets)))


def _dear(known: int, users: int) -> bool:
    return known > max(linear.SMALL, linear.ITEMS_PER_USER * users)


def _shared(weights: csr_matrix, few: KAnonymity | None) -> csr_matrix:
    return weights if few is None else few.taken_from(weights)


def _spread(weights: csr_matrix, rows: Rows, n_items: int) -> csr_matrix:
    """A matrix over some items, given by their ascending rows, as one over all of them."""
    lengths = np.zeros(n_items, np.int64)
    lengths[rows] = np.diff(weights.indptr)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((weights.data, rows[weights.indices], indptr), shape=(n_items, n_items))


_JUDGED = 2000
"""Validation cases that choose an model's settings; the weights are chosen on all."""
_READ, _READ_SCORES = 5000, 50_000_000
"""Cases of validation and of training that choose how content kNN reads a history; fewer of many items."""


@dataclass(frozen=True, eq=False)
class CountModels:
    """What counting gives, as far as it was asked for, and what was chosen and tried, by model."""

    item_item: tuple[ItemItemWeights, ...]
    content_knn: ContentKNN | None
    popularity: Popularity | None
    report: dict[str, dict[str, Any]]
    features: Matrix | None = None  # what content kNN is made of, shape (n_items, f)

    def parts(self, cases: ValidationCases) -> dict[str, ScoreComponent]:
        """The count-based models as parts of the score of the cases."""
        histories = cases.histories()
        parts: dict[str, ScoreComponent] = {p.name: Counted(p.read(histories), p.weights) for p in self.item_item}
        if self.content_knn is not None:
            parts[CONTENT_KNN] = Dense(self.content_knn.users(histories), self.content_knn.items)
        if self.popularity is not None:
            parts[POPULARITY] = PopularityAt(self.popularity, cases.times)
        return parts


def count_models(
    log: Interactions,
    cases: ValidationCases,
    features: Matrix,
    settings: AlignSettings,
    progress: Progress = SILENT,
    least: int = 1,
    *,
    blocks: bool = True,
    folder: Path | None = None,
) -> CountModels:
    """Fit the count models that the settings name; a sample of the validation cases chooses each one's own settings.

    Those of content kNN training interactions choose as well, of people who do not teach content meanwhile.
    ``log`` holds training interactions, ``features`` conditioned content of all items, shape (n_items, f);
    what rests on fewer people than ``least`` is left out. Without ``blocks`` nothing is tried that takes minutes;
    large weights are mapped from files in ``folder``, None: in memory.
    """
    few = sample(cases, _JUDGED, rng.generator(settings.seed, "expert cases"))

    def judge(scoring: Scoring) -> float:
        return ndcg(ranks(few, partial(_scored, scoring, few)))

    names = [name for name in NAMES if name in settings.models]
    fitted, report = fit_count_models(
        log,
        judge,
        settings.neighbors,
        names,
        progress,
        features,
        least,
        blocks=blocks,
        folder=folder,
        readers=_readers(log, few, settings.seed) if CONTENT_KNN in names else None,
    )
    item_item = tuple(model for model in fitted if isinstance(model, ItemItemWeights))
    content_knn = next((model for model in fitted if isinstance(model, ContentKNN)), None)
    popularity = next((model for model in fitted if isinstance(model, Popularity)), None)
    return CountModels(item_item, content_knn, popularity, report, features)


def _readers(log: Interactions, validation: ValidationCases, seed: int) -> Readers:
    """The validation cases, and with them what a random half of the people took, by which the others are not taught."""
    half = (rng.generator(seed, "readers").random(log.n_users) < 0.5)[log.user]
    most = max(_JUDGED, min(_READ, _READ_SCORES // log.n_items)) - len(validation)
    asked = validation, taken(log.select(half), known_items(log), seed, most)

    def judge(scoring: Scoring) -> float:
        return ndcg(np.concatenate([ranks(cases, partial(_scored, scoring, cases)) for cases in asked]))

    return Readers(judge, log.select(~half))


def _scored(scoring: Scoring, cases: ValidationCases, block: slice) -> Matrix:
    return scoring(cases.histories(block))
