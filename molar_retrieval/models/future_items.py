"""Weights for all that people take later, not only next: chosen on the future within the training log.

What comes next and what comes within months are found by different things: the last item of a history tells much of the
one and little of the other. So the training log is cut again in time, in the middle and before its last tenth, for what
comes within weeks and within months. What counts is counted anew over what lies before each cut, with the settings that
were chosen for the next item, and asked of people who had something by then and took something new afterwards: all of
that is the answer, judged by NDCG@10 of the set. Weights for it are found as those of the next item are, see
:mod:`molar_retrieval.models.blending`. One more EASE, ``ease_future``, has a regularisation of its own: much more of it
finds what people keep taking. Towers have no say: they were trained on what came after the cuts, so nothing could be
told of them without training them again.

With these weights what counts over the whole training log answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models.base import (
    EASE,
    EASE_FUTURE,
    ITEM_ITEM,
    CountModels,
    Setting,
    ease,
    ease_future_settings,
    refit,
    taught_by,
    too_many,
)
from molar_retrieval.models.blending import (
    Counted,
    Dense,
    PopularityAt,
    ScoreCache,
    ScoreComponent,
    Scored,
    Weights,
    found_by,
    most_cases,
    placed,
)
from molar_retrieval.models.ease import EASECounts
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import ItemItemWeights, binary, countable, known_items
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.validation import SCORES_PER_BLOCK, drawn
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.objectives import FUTURE_ITEMS
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Matrix, Rows, outside

AFTER = (0.5, 0.1)
"""Shares of the training interactions that lie after the cuts."""
_MOST = 500
"""People who are asked at a cut, at most."""
_FEWEST = 20
"""With fewer the log tells nothing of what people take later."""
_MOST_ITEMS = 16_000
"""Of ``ease_future``: its three matrices of items × items then take what the two of EASE take at most."""
_K = 10


@dataclass(frozen=True, eq=False)
class FutureCases:
    """What people took after a cut in time, all of it that was new to them and could be known by then.

    Attributes:
        log: What lies before the cut, all that may be fitted for these cases.
        cut: When they are asked, seconds since 1970 in UTC.
        users: User row of each case, shape (C,).
        taken: 1 for each item that the user took afterwards, shape (C, n_items).
        folder: Where scores lie that memory has no room for; None: they are held.
    """

    log: Interactions
    cut: int
    users: Rows
    taken: csr_matrix
    folder: Path | None = None

    @classmethod
    def of(cls, log: Interactions, after: float, seed: int = 0, folder: Path | None = None) -> Self:
        """Cut where a share ``after`` of the interactions is left; there are no cases in a log of one moment.

        Of several kinds of interactions only the strongest is an answer. Of many users 500 are drawn.
        """
        cut = int(np.quantile(log.timestamp, 1 - after, method="higher")) if len(log) else 0
        before = log.select(log.timestamp < cut)
        had, taken = binary(before), binary(log.select(log.timestamp >= cut).strongest)
        new = csr_matrix(taken - taken.multiply(had))
        new = csr_matrix(new.multiply(known_items(before)[None, :]))
        new.eliminate_zeros()
        new.sort_indices()
        users = np.flatnonzero((np.diff(had.indptr) > 0) & (np.diff(new.indptr) > 0))
        users = users[drawn(len(users), _MOST, rng.generator(seed, "future cases"))]
        return cls(before, cut, users, new[users], folder)

    def __len__(self) -> int:
        return len(self.users)

    def histories(self) -> Interactions:
        """What is known of each case at the cut: a log with one row ("user") per case."""
        return replace(self.log.of_users(self.users), asked_at=np.full(len(self), self.cut, np.int64))

    def scored(self, parts: Mapping[str, ScoreComponent]) -> "list[ScoredSets]":
        """The scores of all cases, or of as many as :func:`~molar_retrieval.models.blending.most_cases` says."""
        most = most_cases(len(parts), self.log.n_items)
        some = drawn(len(self), most, rng.generator(0, "future cases"))
        folder = placed(self.folder, len(parts) * len(some) * self.log.n_items)
        unknown, blocks = ~known_items(self.log), []
        height = max(1, SCORES_PER_BLOCK // max(1, self.log.n_items))
        for rows in np.split(some, range(height, len(some), height)):
            hidden = np.repeat(unknown[None], len(rows), axis=0)
            had = self.log.of_users(self.users[rows])
            hidden[had.user, had.item] = True
            scores = np.stack([part.scores(rows) for part in parts.values()])
            scores = scores if folder is None else outside(scores, folder)
            blocks.append(ScoredSets(scores, hidden, self.taken[rows]))
        return blocks


@dataclass(frozen=True, eq=False)
class ScoredSets(Scored):
    """Cases of one item or more, ``taken``, shape (cases, n_items), none of which is hidden."""

    taken: csr_matrix

    def gains(self, scores: Matrix) -> npt.NDArray[np.float64]:
        """NDCG@10 of the set, by the best possible order of it; ties count against what was taken."""
        np.copyto(scores, -np.inf, where=self.hidden)
        cases = np.repeat(np.arange(len(scores)), np.diff(self.taken.indptr))
        answers = np.zeros(scores.shape, bool)
        answers[cases, self.taken.indices] = True
        scores[answers] = np.nextafter(scores[answers], np.float32(-np.inf))
        k = min(_K, scores.shape[1])
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(answers, np.take_along_axis(best, order, axis=1), axis=1)
        discount = 1 / np.log2(np.arange(2.0, k + 2))
        ideal = np.cumsum(discount)[np.minimum(np.diff(self.taken.indptr), k) - 1]
        found: npt.NDArray[np.float64] = hits @ discount / ideal
        return found

    def told(self) -> tuple[Matrix, Rows | csr_matrix]:
        """See :class:`molar_retrieval.models.blending.Scored`."""
        found, table = self.alternatives()
        own = (self.taken.toarray() > 0)[np.arange(len(found))[:, None], found] & (found >= 0)
        there = own.any(axis=1)
        return table[:, there], csr_matrix(own[there] / own[there].sum(axis=1, keepdims=True, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class FutureWeights:
    """What is chosen for all that people take later.

    Attributes:
        weights: Of each part, 0 where it has no say.
        lasting: The EASE that is for this alone, over the whole training log; None: none was better than ``linear``.
        report: How it was chosen, for the manifest.
        model: The same of ``ease_future``, as of other count-based models; empty without.
    """

    weights: Mapping[str, float]
    ease_future: ItemItemWeights | None
    report: dict[str, Any]
    expert: dict[str, Any]

    def given_to(self, model: Ensemble) -> Ensemble:
        """The model with these weights beside its own, which stay those of the next item."""
        more = () if self.ease_future is None else (self.ease_future,)
        return replace(model.with_objectives({FUTURE_ITEMS: self.weights}), item_item=(*model.item_item, *more))


def with_future_items(
    model: Ensemble,
    log: Interactions,
    counts: CountModels,
    settings: AlignSettings,
    progress: Progress = SILENT,
    folder: Path | None = None,
) -> tuple[Ensemble, dict[str, Any], dict[str, dict[str, Any]]]:
    """The model with weights for future items, where ``[align] objectives`` names these, and how they were chosen.

    That is what the manifest says of it, and of the ``ease_future`` component among the others. ``log`` holds all
    training interactions; scores and weights that memory has no room for lie in ``folder``. Where the log says too
    little, nothing is chosen, which is noted; a DataError if lists are to be of what people take later.
    """
    if FUTURE_ITEMS.name not in settings.objectives:
        return model, {}, {}
    cuts = [FutureCases.of(log, after, settings.seed, folder) for after in AFTER]
    told = [cases for cases in cuts if len(cases) >= _FEWEST]
    if missing := _missing(cuts, told, counts):
        if settings.objectives[0] == FUTURE_ITEMS.name:
            raise DataError(f"no weights for future items: {missing}", 'set objectives = ["next_item"] in [align]')
        progress.note(f"no weights for future items: {missing}")
        return model, {"note": missing}, {}
    future = choose_future_items(log, told, counts, settings, model.least, progress, folder)
    return (
        replace(future.given_to(model), default_objective=settings.objectives[0]),
        future.report,
        ({EASE_FUTURE: future.expert} if future.expert else {}),
    )


def _missing(cuts: Sequence[FutureCases], told: Sequence[FutureCases], counts: CountModels) -> str | None:
    """Why nothing can be chosen, in words; None where something can."""
    if not counts.report:
        return "no count-based model is named, and towers have no say in it"
    if told:
        return None
    return (
        f"the log says too little of it: {max(map(len, cuts))} people were there before and took something new after a"
        f" cut in time, {_FEWEST} are needed"
    )


def choose_future_items(
    log: Interactions,
    cuts: Sequence[FutureCases],
    counts: CountModels,
    settings: AlignSettings,
    least: int = 1,
    progress: Progress = SILENT,
    folder: Path | None = None,
) -> FutureWeights:
    """Choose weights for all that people take later, by the future after some cuts of a training log.

    ``counts`` are those of the whole log, with settings that were chosen for the next item; there is at least one. No
    pair of items rests on fewer people than ``least``; large weights are mapped from files in ``folder``, None: in
    memory.
    """
    began = Timer()
    progress.start("future items", None)
    futures = [Future.of(cases, counts, settings.neighbors, least, folder) for cases in cuts]
    found = _ease_future(futures, settings.neighbors)
    if found is not None:
        for future, component in zip(futures, found.components, strict=True):
            future.parts[EASE_FUTURE] = component
    weights, report = weighed(futures)
    ease_future = None
    if found is not None and weights[EASE_FUTURE]:
        whole = countable(log)
        few = KAnonymity.of(whole, least)
        ease_future = ease(EASECounts.of(whole), found.setting, settings.neighbors, log.n_items, few)
    progress.finish()
    took = began.took
    report |= {"seconds": round(took.seconds, 2), "processor_seconds": round(took.processor, 2)}
    expert = {} if found is None or ease_future is None else {"chosen": dict(found.setting), "tried": found.tried}
    return FutureWeights(weights, ease_future, report, expert)


@dataclass(frozen=True, eq=False)
class Future:
    """Cases after a cut, what counts over what lies before it as parts of their score, and pairs that few had there."""

    cases: FutureCases
    parts: dict[str, ScoreComponent]
    few: KAnonymity | None

    @classmethod
    def of(
        cls,
        cases: FutureCases,
        counts: CountModels,
        neighbors: int,
        least: int = 1,
        folder: Path | None = None,
    ) -> Self:
        """Count the count-based models by their settings over what lies before the cut."""
        histories, parts = cases.histories(), dict[str, ScoreComponent]()
        few = KAnonymity.of(countable(cases.log), least)
        for one in counts.item_item:
            counted = refit(one.name, cases.log, counts.report[one.name]["chosen"], neighbors, few, folder)
            parts[one.name] = Counted(counted.read(histories), counted.weights)
        if (neighbours := counts.content_knn) is not None:
            if counts.features is not None:
                neighbours = taught_by(neighbours, counts.features, cases.log, least)
            parts["content_knn"] = Dense(neighbours.users(histories), neighbours.items)
        if counts.popularity is not None and histories.asked_at is not None:
            parts["popularity"] = PopularityAt(
                Popularity.fit(cases.log, counts.popularity.half_life, least), histories.asked_at
            )
        return cls(cases, parts, few)


def scored(futures: Sequence[Future], only: Sequence[Mapping[str, ScoreComponent]] | None = None) -> ScoreCache[Scored]:
    """The scores of the cases after all cuts by their parts, or by ``only`` these, one mapping for each cut."""
    parts = [future.parts for future in futures] if only is None else only
    blocks = [block for future, own in zip(futures, parts, strict=True) for block in future.cases.scored(own)]
    return ScoreCache(len(parts[0]), blocks, sum(len(b.hidden) for b in blocks) == sum(len(f.cases) for f in futures))


def weighed(futures: Sequence[Future]) -> tuple[dict[str, float], dict[str, Any]]:
    """The weights of the parts, and what they reach: never less than the best part alone."""
    parts, cache = list(futures[0].parts), scored(futures)
    single = np.eye(len(parts))
    alone = [cache.ndcg(one) for one in single]
    weights = best = single[int(np.argmax(alone))]
    if len(parts) > 1 and max(alone) > 0:
        found = found_by(cache, best, len(cache))
        weights = next((one for one in found if cache.ndcg(one) > max(alone)), best)
    share = weights * cache.spread
    report = {
        "cuts": [future.cases.cut for future in futures],
        "cases": sum(len(future.cases) for future in futures),
        "taken": sum(int(future.cases.taken.nnz) for future in futures),
        "scores": {"aligned": cache.ndcg(weights), **dict(zip(parts, alone, strict=True))},
        "shares": dict(zip(parts, (share / max(share.sum(), 1e-12)).tolist(), strict=True)),
    }
    return dict(zip(parts, weights.tolist(), strict=True)), report


@dataclass(frozen=True, eq=False)
class _EASEFuture:
    """EASE for what people take later, by its NDCG@10: its setting, what it says after each cut, all that was tried."""

    score: float
    setting: Setting
    components: list[ScoreComponent]
    tried: list[dict[str, Any]]


def _ease_future(futures: Sequence[Future], neighbors: int) -> _EASEFuture | None:
    """EASE with the regularisation that ranks the cases best; None where ``linear`` ranks them as well.

    More is tried as long as more is better. None as well above 16,000 items, and where EASE is not worth its price.
    """
    logs = [future.cases.log for future in futures]
    item_item = next((name for name in ITEM_ITEM if name in futures[0].parts), None)
    if item_item is None or any(too_many(EASE, log) for log in logs):
        return None
    if max(int(known_items(log).sum()) for log in logs) > _MOST_ITEMS:
        return None
    counts = [EASECounts.of(countable(future.cases.log)) for future in futures]
    only: Weights = np.ones(1)
    best: _EASEFuture | None = None
    tried: list[dict[str, Any]] = []
    for setting in ease_future_settings(neighbors, futures[0].cases.log.n_items):
        began = Timer()
        components = [_component(future, own, setting) for future, own in zip(futures, counts, strict=True)]
        score = scored(futures, [{EASE_FUTURE: one} for one in components]).ndcg(only)
        tried.append({"setting": dict(setting), "ndcg@10": round(score, 6), "seconds": round(began.took.seconds, 2)})
        if best is not None and score <= best.score:
            break
        best = _EASEFuture(score, setting, components, tried)
    usual = scored(futures, [{item_item: future.parts[item_item]} for future in futures]).ndcg(only)
    return None if best is None or best.score <= usual else best


def _component(future: Future, counts: EASECounts, setting: Setting) -> ScoreComponent:
    fitted = ease(counts, setting, setting["neighbors"], future.cases.log.n_items, future.few)
    return Counted(fitted.read(future.cases.histories()), fitted.weights)
