"""What the page shows of a split: plots with their numbers, and tables, made ready for the template."""

from dataclasses import dataclass

from markupsafe import Markup

from molar_eval.report import figures, grids, planes
from molar_eval.report.figures import Figure
from molar_eval.report.grids import Grid
from molar_eval.report.schema import Report, SplitResult
from molar_eval.report.verdict import Verdict, judge


@dataclass(frozen=True)
class View:
    """A split as the page shows it; a part that has nothing to show is None, or has no rows."""

    result: SplitResult
    anchor: str
    verdict: Verdict
    shares: Figure | None
    intervals: Figure | None
    slices: list[Figure]
    ablations: Figure | None
    time: Markup | None
    coverage: Markup | None
    calibration: Markup | None
    tables: dict[str, Grid]
    slice_tables: list[Grid]


def views(report: Report) -> list[View]:
    """The splits of a report."""
    return [_view(split, report, number) for number, split in enumerate(report.splits, start=1)]


def _view(split: SplitResult, report: Report, number: int) -> View:
    verdict = judge(split, report.made)
    ours = verdict.ours
    made = {
        "leaderboard": grids.leaderboard(split),
        "metrics": grids.metrics(split),
        "comparisons": grids.comparisons(split),
        "lists": grids.lists(split),
        "index": grids.index(split),
        "trade_off": grids.trade_off(split),
        "kpi": grids.kpi(split),
    }
    dimensions = dict.fromkeys(name for model in split.models for name in model.slices)
    return View(
        result=split,
        anchor=f"split-{number}",
        verdict=verdict,
        shares=figures.shares(verdict),
        intervals=figures.intervals(split, verdict),
        slices=[figures.slices(split, ours, dimension) for dimension in ours.slices] if ours else [],
        ablations=figures.ablations(split),
        time=planes.time(split),
        coverage=planes.coverage(split),
        calibration=planes.calibration(split, verdict),
        tables=made,
        slice_tables=[grids.slices(split, dimension) for dimension in dimensions],
    )
