"""Evaluating models on a data set in memory: every model fitted on each split, all items ranked, nothing sampled."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molar.base import plain_errors
from molar.splits import ColdItems, ColdUsers, Fold, LastDay, LeaveOneOut, Rolling, Split, Temporal
from molar_retrieval.errors import DataError, SettingsError, nearest

if TYPE_CHECKING:
    from molar.dataset import Dataset
    from molar_eval.cases import Cases, Seen
    from molar_eval.evaluation import Evaluation
    from molar_eval.model_runs import CaseScores
    from molar_eval.models.base import Model as Tested
    from molar_eval.models.base import Scorer
    from molar_eval.report.schema import SplitResult
    from molar_eval.suite import Suite
    from molar_retrieval.data.interactions import Interactions
    from molar_retrieval.models.protocol import Model

SPLITS = {"leave-one-out": LeaveOneOut, "temporal": Temporal, "last day": LastDay, "cold items": ColdItems,
          "cold users": ColdUsers, "rolling": Rolling}  # fmt: skip
"""The splits that can be named, with their defaults."""


@plain_errors
def evaluate(
    models: "Sequence[Model | str]",
    data: "Dataset",
    splits: "Sequence[Split | str]" = ("temporal",),
    *,
    metrics: Sequence[str] = ("ndcg@10", "recall@10"),
    seeds: int = 1,
    filter_seen: bool = True,
    baseline: str | None = None,
    out: str | Path | None = None,
) -> "Evaluation":
    """Compare models on a data set: fitted on training, tuned on validation, judged once on the test.

    Every item is ranked for every case; ties in score count against a model. Means have 95 % bootstrap intervals over
    users, differences to the baseline p-values of paired permutation tests, corrected after Holm.

    Args:
        models: Models of your own (:class:`molar.Model`), and names of built-in baselines: ``popularity``, ``EASE``,
            ``item-kNN``, ``ALS``, ``content kNN`` … These choose their settings on validation.
        data: The data set.
        splits: Of :mod:`molar.splits`, or of your own; or names: ``leave-one-out``, ``temporal``, ``last day``,
            ``cold items``, ``cold users``, ``rolling``.
        metrics: Metrics of the leaderboard, such as ``ndcg@10``, by the names of :data:`molar.metrics.ACCURACY`; the
            first one orders the models.
        seeds: Fits of each model that depends on a seed; figures are means.
        filter_seen: Whether items that a user had are left out of the lists.
        baseline: The model that all others are compared with; None: the best of the built-in ones, or the first model
            where none is built in.
        out: A folder for the page, ``report.json`` and the figures of each case; None: nothing is written.

    Returns:
        The figures: ``leaderboard()``, ``per_user()``, ``page(path)``.

    Raises:
        DataError: If a split cannot be made of the data, or its answers are among the training interactions.
        SettingsError: If a name is unknown, or two models have one name.
        ModelError: If a model of your own fails.
    """
    from molar_eval.evaluation import Evaluation
    from molar_eval.models.baselines import baselines
    from molar_eval.models.own import checked_models, own_makers
    from molar_eval.report.schema import Data, Report, ReportExamples

    names, own = checked_models(models)
    if not names:
        raise SettingsError("there is no model to evaluate", "name one, or pass one of your own")
    built_in: Mapping[str, Any] = baselines()
    makers = {**built_in, **own_makers(own, built_in)}
    tested = [_chosen(name, makers, "model")() for name in names]
    if baseline is not None and baseline not in names:
        raise SettingsError(f"the baseline {baseline!r} is not among the models", f"name one of {', '.join(names)}")
    suite = _suite(names, metrics, seeds)
    began = time.perf_counter()
    results, scores = [], []
    with tempfile.TemporaryDirectory(prefix="molar-evaluate-") as folder:
        for split in splits:
            chosen = _chosen(split, SPLITS, "split")() if isinstance(split, str) else split
            run = _SplitRun(data, chosen, tested, suite, "hide" if filter_seen else "show", Path(folder))
            for result, cases in run.results(baseline, set(built_in)):
                results.append(result)
                scores += cases
    log = data.log
    report = Report(
        title="Comparison of models",
        suite="evaluate",
        description="Models on a data set in memory.",
        data=Data(
            name="data set", users=log.n_users, items=log.n_items, interactions=len(log), fingerprint=_digest(log)
        ),
        made=_made(time.perf_counter() - began),
        splits=results,
        tables=[],
        settings={"suite": suite.model_dump(mode="json")},
    )
    found = Evaluation(None, report, ReportExamples(catalogue="", users=[]), scores=scores, metrics=suite.compared)
    return found.written(out)


def _chosen(name: str, known: Mapping[str, Any], what: str) -> Any:
    if name not in known:
        close = nearest(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise SettingsError(f"there is no {what} {name!r}", hint)
    return known[name]


def _suite(names: Sequence[str], metrics: Sequence[str], seeds: int) -> "Suite":
    from molar.metrics import accuracy_of
    from molar_eval.suite import Suite

    cutoffs = {accuracy_of(name) for name in metrics}
    if not cutoffs:
        raise SettingsError("there is no metric to compare models by", "name one, such as ndcg@10")
    return Suite(
        name="evaluate", description="", splits=(), models=tuple(names), cutoffs=tuple(sorted(cutoffs)),
        primary=metrics[0], metrics=tuple(dict.fromkeys(metrics)), seeds=seeds, index=False, examples=0,
    )  # fmt: skip


class _SplitRun:
    """All models on the folds of one split; folds of the same training interactions share their fits."""

    def __init__(
        self, data: "Dataset", split: Split, models: "Sequence[Tested]", suite: "Suite", seen: "Seen", folder: Path
    ) -> None:
        self._data, self._split, self._models, self._suite = data, split, models, suite
        self._seen, self._folder = seen, folder
        self._fitted: dict[tuple[str, int], tuple[Scorer, float]] = {}
        self._of: object = None

    def results(self, baseline: str | None, built_in: set[str]) -> "list[tuple[SplitResult, list[CaseScores]]]":
        """The figures of each fold, and those of its cases."""
        return [self._fold(fold, baseline, built_in) for fold in self._split.split(self._data)]

    def _fold(self, fold: Fold, baseline: str | None, built_in: set[str]) -> "tuple[SplitResult, list[CaseScores]]":
        from molar_eval.metrics import ListContext
        from molar_eval.report.schema import SplitResult
        from molar_eval.results import SplitTest, compared, model_result, model_scores
        from molar_eval.splits import leaked_answers

        name = f"{self._split.name}, {fold.name}"
        if not len(fold.test):
            raise DataError(f"{name}: there is no test case", "bring more interactions, or split otherwise")
        for cases in (fold.validation, fold.test):
            if leaked := leaked_answers(fold.train, cases):
                raise DataError(f"{name} leaks: {leaked:,} answers are in training", "leave them out of train")
        digest = _digest(fold.train, fold.validation, fold.test)
        candidates = fold.test.among(np.ones(self._data.log.n_items, bool))
        context = ListContext.of(fold.train, candidates, self._seen, self._data.content)
        on = SplitTest(name, digest, fold.name, fold.test, context, [], self._suite)
        scored, scores = [], []
        for model in self._models:
            trials = [self._trial(model, seed, fold) for seed in range(self._suite.seeds if model.stochastic else 1)]
            each = [on.score(model, trial) for trial in trials]
            scored.append(model_scores(on, model, trials, each))
            scores += each
        rivals = [one for one in scored if one.model.name in built_in] or scored[:1]
        against = baseline or max(rivals, key=lambda one: one.estimates[self._suite.primary].mean).model.name
        versus = compared(on, scored, [(m.name, against) for m in self._models if m.name != against])
        return SplitResult(
            name=name, title=name, fingerprint=digest, settings={}, warning=fold.warning, facts={}, seen=self._seen,
            cases=len(fold.test), users=len(np.unique(fold.test.user)), candidates=int(candidates.sum()),
            primary=self._suite.primary, against=against,
            models=[model_result(on, one, versus[one.model.name]) for one in scored],
        ), scores  # fmt: skip

    def _trial(self, model: "Tested", seed: int, fold: Fold) -> Any:
        from molar_eval.model_runs import Trial
        from molar_eval.ranking import rank

        scorer, fit_seconds = self._fit(model, seed, fold)
        began = time.perf_counter()
        candidates = fold.test.among(np.ones(self._data.log.n_items, bool))
        ranked = rank(
            fold.test, scorer.scores, k=self._suite.k, candidates=candidates, seen=self._seen, finish=scorer.finish
        )
        seconds = {fold.name: time.perf_counter() - began}
        return Trial(seed, scorer.facts, fit_seconds, seconds, {fold.name: ranked}, cached=False)

    def _fit(self, model: "Tested", seed: int, fold: Fold) -> "tuple[Scorer, float]":
        from molar_eval.models.base import EvaluationTask

        if self._of is not fold.train:
            self._fitted, self._of = {}, fold.train
        if (model.name, seed) not in self._fitted:
            task = EvaluationTask(
                training=fold.train, validation=fold.validation, candidates=np.ones(self._data.log.n_items, bool),
                content=self._data.content if self._data.content is not None else self._data.words,
                seen=self._seen, folder=self._folder, words=self._data.words,
            )  # fmt: skip
            began = time.perf_counter()
            self._fitted[model.name, seed] = model.fit(task, seed), time.perf_counter() - began
        return self._fitted[model.name, seed]


def _digest(log: "Interactions", *cases: "Cases") -> str:
    """Changes with every interaction, case and target, and with the ids of items."""
    from molar_retrieval.workspace import fingerprint

    arrays = [log.offsets, log.item, log.timestamp]
    for one in cases:
        arrays += [one.history.offsets, one.history.item, one.user, one.length, one.offsets, one.targets]
    content = fingerprint.of_bytes(np.ascontiguousarray(one).tobytes() for one in arrays)
    return fingerprint.of_json([content, log.items.digest])


def _made(seconds: float) -> Any:
    import os

    from molar_eval.modules import LIBRARIES
    from molar_eval.report.schema import Made
    from molar_retrieval import __version__
    from molar_retrieval.workspace.resources import library_versions

    return Made(
        command="molar.evaluate(…)", date=datetime.now(UTC).date().isoformat(), molar=__version__,
        versions=library_versions(*LIBRARIES), cores=os.cpu_count() or 1, device="cpu", seconds=round(seconds, 1),
    )  # fmt: skip
