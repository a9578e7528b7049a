"""From ranks to what a report says: metrics with intervals, comparisons, slices, qualities of lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_eval.cases import Cases
from molar_eval.metrics.accuracy import accuracy
from molar_eval.metrics.lists import ListContext, list_metrics
from molar_eval.models.base import Model
from molar_eval.report.schema import CalibrationBin, Comparison, Estimate, ModelResult, SliceScore
from molar_eval.scores import CaseScores
from molar_eval.slices import Labels, slices_of
from molar_eval.statistics.bootstrap import clustered_intervals
from molar_eval.statistics.holm import holm
from molar_eval.statistics.permutation import paired_permutation
from molar_eval.statistics.seeds import averaged, seed_spread
from molar_eval.suite import Suite
from molar_eval.trial import Trial

_BINS = 10
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """One test of one split, ready to be judged.

    Attributes:
        name: Of split and test, as it names files.
        fingerprint: Of the split.
        test: Name of the test.
        cases: Its cases.
        context: What lists are judged by.
        labels: Labels of the cases, by dimension.
        suite: Cutoffs, primary metric, resamples.
    """

    name: str
    fingerprint: str
    test: str
    cases: Cases
    context: ListContext
    labels: Sequence[Labels]
    suite: Suite

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the accuracy metrics, the primary first."""
        ranks, offsets = np.zeros(0, np.int64), np.zeros(1, np.int64)
        names = list(accuracy(ranks, offsets, self.suite.cutoffs))
        return tuple(sorted(names, key=lambda name: name != self.suite.primary))

    @property
    def tested(self) -> tuple[str, ...]:
        """The metrics that models are compared by: the primary one, and recall at its cutoff."""
        return tuple(dict.fromkeys((self.suite.primary, f"recall@{self.suite.primary.partition('@')[2]}")))

    def score(self, model: Model, trial: Trial) -> CaseScores:
        """Every metric for every case."""
        per_case = accuracy(trial.ranked[self.test].ranks, self.cases.offsets, self.suite.cutoffs)
        single = np.diff(self.cases.offsets) == 1
        place = np.minimum(self.cases.offsets[:-1], max(0, len(self.cases.targets) - 1))
        target = self.cases.history.items.array.take(pa.array(self.cases.targets[place]))
        return CaseScores(
            split=self.name,
            fingerprint=self.fingerprint,
            model=model.name,
            seed=trial.seed,
            case=np.arange(len(self.cases)),
            user=self.cases.history.users.array.take(pa.array(self.cases.user)),
            target=pa.array(np.where(single, target, None), pa.string()),
            metrics=self.metrics,
            values=np.stack([per_case[name] for name in self.metrics], axis=1),
            slices=self.labels,
        )


@dataclass(frozen=True, eq=False)
class Judged:
    """One model on one test, before it is compared to others."""

    model: Model
    trials: Sequence[Trial]
    values: Values
    estimates: Mapping[str, Estimate]
    kpi: Mapping[str, Estimate] = field(default_factory=dict)


def judge(asked: Asked, model: Model, trials: Sequence[Trial], scores: Sequence[CaseScores]) -> Judged:
    """Means, intervals over users and, with several seeds, the spread over seeds."""
    values = averaged([part.values for part in scores])
    intervals = clustered_intervals(values, asked.cases.user, resamples=asked.suite.resamples)
    spread = seed_spread([part.values for part in scores]).sd
    estimates = {
        name: Estimate(
            mean=interval.mean,
            low=interval.low,
            high=interval.high,
            sd=None if spread is None else float(spread[number]),
        )
        for number, (name, interval) in enumerate(zip(asked.metrics, intervals, strict=True))
    }
    return Judged(model, trials, values, estimates)


def compared(
    asked: Asked, models: Sequence[Judged], against: Mapping[str, str]
) -> dict[str, dict[str, list[Comparison]]]:
    """Each model against its baseline on the same cases, corrected over all comparisons of the test.

    Args:
        asked: The test.
        models: All models.
        against: Name of the baseline by name of the model.

    Returns:
        By model and metric.
    """
    by_name = {judged.model.name: judged for judged in models}
    columns = [asked.metrics.index(name) for name in asked.tested]
    found: list[tuple[str, str, str, Estimate, float]] = []
    for name, baseline in against.items():
        difference = (by_name[name].values - by_name[baseline].values)[:, columns]
        p = paired_permutation(difference, asked.cases.user, resamples=5 * asked.suite.resamples)
        intervals = clustered_intervals(difference, asked.cases.user, resamples=asked.suite.resamples)
        for number, metric in enumerate(asked.tested):
            i = intervals[number]
            found.append(
                (name, metric, baseline, Estimate(mean=i.mean, low=i.low, high=i.high, sd=None), float(p[number]))
            )
    corrected = holm(np.array([p for *_, p in found]))
    result: dict[str, dict[str, list[Comparison]]] = {name: {} for name in by_name}
    for (name, metric, baseline, estimate, single), p_holm in zip(found, corrected, strict=True):
        record = Comparison(baseline=baseline, difference=estimate, p=single, p_holm=float(p_holm))
        result[name].setdefault(metric, []).append(record)
    return result


def model_result(asked: Asked, judged: Judged, versus: Mapping[str, list[Comparison]]) -> ModelResult:
    """All that the report says of one model on one test."""
    trials, ranked = judged.trials, judged.trials[0].ranked[asked.test]
    each, whole = list_metrics(ranked, asked.cases, asked.context, asked.suite.cutoffs)
    means = {name: float(np.nanmean(v)) if np.isfinite(v).any() else np.nan for name, v in each.items()}
    return ModelResult(
        name=judged.model.name,
        kind=judged.model.kind,
        settings=dict(judged.model.settings),
        facts=dict(trials[0].facts),
        seeds=[trial.seed for trial in trials],
        fit_seconds=float(np.mean([trial.fit_seconds for trial in trials])),
        score_seconds=float(np.mean([trial.score_seconds[asked.test] for trial in trials])),
        metrics=dict(judged.estimates),
        lists={name: float(v) if np.isfinite(v) else None for name, v in {**whole, **means}.items()},
        versus=dict(versus),
        slices={labels.dimension: _slices(asked, judged, labels) for labels in asked.labels},
        calibration=_calibration(ranked.scores[:, 0], judged.values[:, asked.metrics.index(_hit_rate(asked.suite))]),
        kpi=dict(judged.kpi),
    )


def _slices(asked: Asked, judged: Judged, labels: Labels) -> list[SliceScore]:
    columns = [asked.metrics.index(name) for name in asked.tested]
    result = []
    for part in slices_of(labels, asked.cases.user):
        metrics = None
        if not part.too_few:
            values, users = judged.values[part.mask][:, columns], asked.cases.user[part.mask]
            intervals = clustered_intervals(values, users, resamples=asked.suite.resamples // 2)
            metrics = {
                name: Estimate(mean=i.mean, low=i.low, high=i.high, sd=None)
                for name, i in zip(asked.tested, intervals, strict=True)
            }
        result.append(SliceScore(value=part.value, cases=int(part.mask.sum()), users=part.users, metrics=metrics))
    return result


def _hit_rate(suite: Suite) -> str:
    return f"hit_rate@{suite.primary.partition('@')[2]}"


def _calibration(score: npt.NDArray[np.float32], hit: Values) -> list[CalibrationBin]:
    """Cases by the standardised score of their first recommendation, in tenths, and how often each tenth hits."""
    known = np.isfinite(score)
    score, hit = score[known].astype(np.float64), hit[known]
    if len(score) < _BINS or not score.std():
        return []
    score = (score - score.mean()) / score.std()
    order = np.argsort(score, kind="stable")
    return [
        CalibrationBin(score=float(score[part].mean()), hit_rate=float(hit[part].mean()), cases=len(part))
        for part in np.array_split(order, _BINS)
    ]
