"""A search as an HTML page that needs no other file."""

from collections.abc import Sequence

from markupsafe import Markup

from molar_eval.report.plots import Curve, curves
from molar_eval.tuning.result import TuningResult, TuningTrial
from molar_eval.tuning.told import headline, lines_of, sentences
from molar_retrieval.reports.charts import Scale, percent, stretched, tag
from molar_retrieval.reports.html import render_page

_HEIGHT = 13


def render(result: TuningResult) -> str:
    """The page: what was found, whether it holds, what mattered, every trial."""
    most = max(result.importance.values(), default=1.0)
    return render_page(
        "molar_eval.tuning",
        "page.html.jinja",
        headline=headline(result),
        sentences=sentences(result),
        lines=lines_of(result.changes),
        result=result,
        dials=list(result.now.values),
        history=_history(result.trials),
        importance=[(name, _bar(share, most), share) for name, share in result.importance.items()],
    )


def _history(trials: Sequence[TuningTrial]) -> Markup | None:
    """Scores in the order of the trials, and the best so far; None before two ran to their end."""
    points = [(float(number), one.score) for number, one in enumerate(trials) if one.score is not None]
    if len(points) < 2:
        return None
    best, so_far = 0.0, []
    for place, score in points:
        best = max(best, score)
        so_far.append((place, best))
    scores = [score for _, score in points]
    floor = max(0.0, min(scores) - (max(scores) - min(scores)))
    return curves(
        [Curve("trial", "baseline", points), Curve("best so far", "ours", so_far)],
        title="Score of each trial, and the best so far",
        x_title="trial",
        y_title="NDCG@10 of those who choose",
        floor=floor,
    )


def _bar(share: float, most: float) -> Markup:
    width = percent(Scale(0.0, most)(share))
    return stretched(_HEIGHT, tag("rect", x="0", y=2, width=width, height=_HEIGHT - 4, class_="bar ours"))
