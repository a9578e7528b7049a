"""Models in planes: quality against training time and coverage, and whether scores are calibrated."""

from markupsafe import Markup

from molar_eval.report import plots
from molar_eval.report.plots import Curve, Point
from molar_eval.report.schema import ModelResult, SplitResult
from molar_eval.report.standing import ordered
from molar_eval.report.verdict import Verdict
from molar_retrieval.pages import words

_SHORTEST = 0.01


def time(split: SplitResult) -> Markup | None:
    """Quality against training time."""
    points = [
        Point(m.name, m.kind, max(m.fit_seconds, _SHORTEST), m.metrics[split.primary].mean) for m in _compared(split)
    ]
    if len(points) < 2:
        return None
    name = words.metric(split.primary)
    return plots.scatter(
        points, title=f"{name} against training time", x_title="training time", y_title=name, seconds=True
    )


def coverage(split: SplitResult) -> Markup | None:
    """Quality against the share of the catalogue that the lists reach."""
    found = [(m, next((v for k, v in m.lists.items() if "coverage" in k), None)) for m in _compared(split)]
    points = [Point(m.name, m.kind, v, m.metrics[split.primary].mean) for m, v in found if v is not None]
    if len(points) < 2:
        return None
    name = words.metric(split.primary)
    x_title = "share of the catalogue in any list"
    return plots.scatter(points, title=f"{name} against catalogue coverage", x_title=x_title, y_title=name)


def _compared(split: SplitResult) -> list[ModelResult]:
    """Ours and the baselines; ablations would only crowd the plane around the full model."""
    models = [m for m in ordered(split) if m.kind != "ablation" and split.primary in m.metrics]
    return sorted(models, key=lambda model: model.kind != "ours")


def calibration(split: SplitResult, verdict: Verdict) -> Markup | None:
    """Hits by the score of the first suggestion: ours and the best baseline."""
    chosen = [m for m in (verdict.ours, verdict.baseline) if m is not None and len(m.calibration) > 1]
    if not chosen:
        return None
    lines = [Curve(m.name, m.kind, [(b.score, b.hit_rate) for b in m.calibration]) for m in chosen]
    title = "Share of cases with a hit against the score of the first suggestion"
    return plots.curves(
        lines, title=title, x_title="score of the first suggestion, standardised", y_title="share of cases with a hit"
    )
