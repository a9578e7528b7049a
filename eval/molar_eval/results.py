"""From scores of cases to the results of a report: means, comparisons, slices, the declared comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_eval.cases import Cases
from molar_eval.metrics import ListContext, accuracy, list_metrics
from molar_eval.model_runs import CaseScores, Trial
from molar_eval.models.base import Tested
from molar_eval.models.registry import BY_SCORE, FAST, OURS, PARTS, WITHOUT
from molar_eval.report.schema import (
    CalibrationBin,
    Comparison,
    Estimate,
    ModelResult,
    PrimaryResult,
    SliceScore,
    SplitResult,
)
from molar_eval.slices import MINIMUM_USERS, Labels, slices_of
from molar_eval.statistics import (
    ConfidenceInterval,
    averaged,
    clustered_intervals,
    holm,
    paired_permutation,
    seed_spread,
)
from molar_eval.suite import PrimaryComparison, Suite

_BINS = 10
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SplitTest:
    """One test of one split, ready for models to be scored on.

    ``name`` is of split and test, as it names files; ``key`` the test's own within the split, ``fingerprint`` the
    split's; ``fewest`` users are in a slice that is reported.
    """

    name: str
    fingerprint: str
    key: str
    cases: Cases
    context: ListContext
    labels: Sequence[Labels]
    suite: Suite
    fewest: int = MINIMUM_USERS

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the accuracy metrics, the primary first."""
        names = list(accuracy(np.zeros(0, np.int64), np.zeros(1, np.int64), self.suite.cutoffs))
        return tuple(sorted(names, key=lambda name: name != self.suite.primary))

    def columns(self, names: Sequence[str]) -> list[int]:
        """Where metrics stand among :attr:`metrics`."""
        return [self.metrics.index(name) for name in names]

    def score(self, model: Tested, trial: Trial) -> CaseScores:
        """Every metric for every case."""
        per_case = accuracy(trial.ranked[self.key].ranks, self.cases.offsets, self.suite.cutoffs)
        target = self.cases.single_target
        ids = self.cases.history.items.array.take(pa.array(np.maximum(target, 0)))
        return CaseScores(
            split=self.name,
            fingerprint=self.fingerprint,
            model=model.name,
            seed=trial.seed,
            case=np.arange(len(self.cases)),
            user=self.cases.history.users.array.take(pa.array(self.cases.user)),
            target=pa.array(np.where(target >= 0, ids, None), pa.string()),
            metrics=self.metrics,
            values=np.stack([per_case[name] for name in self.metrics], axis=1),
            slices=self.labels,
        )


@dataclass(frozen=True, eq=False)
class ModelScores:
    """One model on one test, before it is compared to others; one trial per seed.

    ``values`` are metrics of each case, averaged over seeds, shape (C, metrics), ``estimates`` their means by name,
    ``kpi`` conversion and revenue.
    """

    model: Tested
    trials: Sequence[Trial]
    values: Values
    estimates: Mapping[str, Estimate]
    kpi: Mapping[str, Estimate] = field(default_factory=dict)


def estimate(interval: ConfidenceInterval, sd: float | None = None) -> Estimate:
    """An interval as a report holds it, with the spread over seeds where there are several."""
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, sd=sd)


def model_scores(test: SplitTest, model: Tested, trials: Sequence[Trial], scores: Sequence[CaseScores]) -> ModelScores:
    """Means, intervals over users and, with several seeds, the spread over seeds."""
    values = averaged([one.values for one in scores])
    intervals = clustered_intervals(values, test.cases.user, resamples=test.suite.resamples)
    spread = seed_spread([one.values for one in scores]).sd
    sds = [None] * len(intervals) if spread is None else spread.tolist()
    estimates = [estimate(interval, sd) for interval, sd in zip(intervals, sds, strict=True)]
    return ModelScores(model, trials, values, dict(zip(test.metrics, estimates, strict=True)))


def compared(
    test: SplitTest, models: Sequence[ModelScores], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, list[Comparison]]]:
    """Pairs of models and baselines on the same cases, by model and metric; corrected over all comparisons."""
    by_name = {one.model.name: one for one in models}
    columns = test.columns(test.suite.compared)
    found: list[tuple[str, str, str, ConfidenceInterval, float]] = []
    for name, baseline in pairs:
        difference = (by_name[name].values - by_name[baseline].values)[:, columns]
        p_values = paired_permutation(difference, test.cases.user, resamples=5 * test.suite.resamples)
        intervals = clustered_intervals(difference, test.cases.user, resamples=test.suite.resamples)
        each = zip(test.suite.compared, intervals, p_values.tolist(), strict=True)
        found += [(name, metric, baseline, interval, p) for metric, interval, p in each]
    corrected = holm(np.array([p for *_, p in found]))
    result: dict[str, dict[str, list[Comparison]]] = {name: {} for name in by_name}
    for (name, metric, baseline, interval, p), p_holm in zip(found, corrected, strict=True):
        record = Comparison(baseline=baseline, difference=estimate(interval), p=p, p_holm=float(p_holm))
        result[name].setdefault(metric, []).append(record)
    return result


def model_result(test: SplitTest, scored: ModelScores, versus: Mapping[str, list[Comparison]]) -> ModelResult:
    """All that the report says of one model on one test."""
    trials, ranked = scored.trials, scored.trials[0].ranked[test.key]
    each, whole = list_metrics(ranked, test.cases, test.context, test.suite.cutoffs)
    means = {name: float(np.nanmean(v)) if np.isfinite(v).any() else np.nan for name, v in each.items()}
    hit_rate = test.metrics.index(f"hit_rate@{test.suite.primary.partition('@')[2]}")
    return ModelResult(
        name=scored.model.name,
        kind=scored.model.kind,
        settings=dict(scored.model.settings),
        facts=dict(trials[0].facts),
        seeds=[trial.seed for trial in trials],
        fit_seconds=float(np.mean([trial.fit_seconds for trial in trials])),
        score_seconds=float(np.mean([trial.score_seconds[test.key] for trial in trials])),
        metrics=dict(scored.estimates),
        lists={name: float(v) if np.isfinite(v) else None for name, v in {**whole, **means}.items()},
        versus=dict(versus),
        slices={labels.dimension: _slices(test, scored, labels) for labels in test.labels},
        calibration=_calibration(ranked.scores[:, 0], scored.values[:, hit_rate]),
        kpi=dict(scored.kpi),
    )


def _slices(test: SplitTest, scored: ModelScores, labels: Labels) -> list[SliceScore]:
    values, user = scored.values[:, test.columns(test.suite.compared)], test.cases.user
    result = []
    for one in slices_of(labels, user, minimum=test.fewest):
        metrics = None
        if not one.too_few:
            found = clustered_intervals(values[one.mask], user[one.mask], resamples=test.suite.resamples // 2)
            metrics = {name: estimate(interval) for name, interval in zip(test.suite.compared, found, strict=True)}
        result.append(SliceScore(value=one.value, cases=int(one.mask.sum()), users=one.users, metrics=metrics))
    return result


def _calibration(score: npt.NDArray[np.float32], hit: Values) -> list[CalibrationBin]:
    """Cases by the standardised score of their first recommendation, in tenths, and how often each tenth hits."""
    known = np.isfinite(score)
    score, hit = score[known].astype(np.float64), hit[known]
    if len(score) < _BINS or not score.std():
        return []
    score = (score - score.mean()) / score.std()
    order = np.argsort(score, kind="stable")
    return [
        CalibrationBin(score=float(score[tenth].mean()), hit_rate=float(hit[tenth].mean()), cases=len(tenth))
        for tenth in np.array_split(order, _BINS)
    ]


def best_baseline(models: Sequence[ModelScores], metric: str) -> str:
    """The strongest baseline of a test, which is the hardest to beat; the first model where there is none."""
    baselines = [one for one in models if one.model.kind == "baseline"] or list(models[:1])
    return max(baselines, key=lambda one: one.estimates[metric].mean).model.name


def rivals(models: Sequence[ModelScores], against: str) -> dict[str, str]:
    """Whom each model is compared to, by name.

    Ablations to molar (fast), parts of molar, molar without one of them and molar without its second stage to molar,
    where these took part; the others to ``against``, which has no rival of its own.
    """
    names = {one.model.name for one in models}
    found = {}
    for one in models:
        name = one.model.name
        whole = OURS if name in (*PARTS, *WITHOUT, BY_SCORE) else FAST if one.model.kind == "ablation" else against
        if name != against:
            found[name] = whole if whole in names else against
    return found


def pairs(
    models: Sequence[ModelScores], against: str, test: str, primary: PrimaryComparison | None
) -> list[tuple[str, str]]:
    """All pairs of models that are compared on a test, with the one that the suite declared for it."""
    names = {one.model.name for one in models}
    found = list(rivals(models, against).items())
    if primary is not None and primary.split == test and names >= {primary.model, primary.against}:
        found.append((primary.model, primary.against))
    return list(dict.fromkeys(found))


_Key = tuple[str, str, str, str]


def corrected(
    splits: Sequence[SplitResult], primary: PrimaryComparison | None
) -> tuple[list[SplitResult], PrimaryResult | None]:
    """The results with p-values as the declaration asks for, and what became of the declared comparison.

    That one keeps its own p, as nothing else could have been chosen in its place; the p-values of all others, over all
    tests of the run, are corrected together after Holm. Without a declaration every test is corrected by itself, as it
    comes.
    """
    if primary is None:
        return list(splits), None
    p = {
        (split.name, model.name, metric, one.baseline): one.p
        for split in splits
        for model in split.models
        for metric, tests in model.versus.items()
        for one in tests
    }
    declared: _Key = (primary.split, primary.model, primary.metric, primary.against)
    apart = {declared: p.pop(declared)} if declared in p else {}
    adjusted = dict(zip(p, holm(np.array(list(p.values()))).tolist(), strict=True)) | apart
    results = [
        split.model_copy(update={"models": [_corrected(split.name, model, adjusted) for model in split.models]})
        for split in splits
    ]
    return results, PrimaryResult(**primary.model_dump(), comparison=_found(results, declared))


def _corrected(split: str, model: ModelResult, adjusted: dict[_Key, float]) -> ModelResult:
    versus = {
        metric: [one.model_copy(update={"p_holm": adjusted[split, model.name, metric, one.baseline]}) for one in tests]
        for metric, tests in model.versus.items()
    }
    return model.model_copy(update={"versus": versus})


def _found(splits: Sequence[SplitResult], declared: _Key) -> Comparison | None:
    name, model, metric, against = declared
    for split in splits:
        for one in split.models:
            if (split.name, one.name) == (name, model):
                return next((test for test in one.versus.get(metric, []) if test.baseline == against), None)
    return None
