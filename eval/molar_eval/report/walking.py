"""A walk through time on the page and in words: each step, what is kept, what it costs."""

from itertools import accumulate

from markupsafe import Markup

from molar_eval.report import plots
from molar_eval.report.grids import Cell, Grid
from molar_eval.report.plots import Curve
from molar_eval.report.schema import Estimate, SplitResult, WalkArm, WalkResult
from molar_retrieval.reports import wording as words

_SETTLED = 5
"""Steps after which a share of a sum over all steps so far is drawn; before, it leaps."""


def sentences(split: SplitResult) -> list[str]:
    """What each arm keeps of the reference's quality, and at what cost; those that learn nothing together, last."""
    walk = split.walk
    if walk is None or walk.reference is None:
        return []
    name, length = words.metric(split.primary), words.plural(len(walk.steps), walk.window)
    told = [
        f"{arm.name} keeps {_share(arm.kept)} of the {name} of {walk.reference} at {words.percent(arm.cost, 1)} of its"
        f" time, over {length}."
        for arm in walk.arms
        if arm.kept is not None and arm.cost
    ]
    idle = [f"{arm.name} keeps {_share(arm.kept)}" for arm in walk.arms if arm.kept is not None and not arm.cost]
    return [*told, *([f"Learning nothing, {', '.join(idle)}."] if idle else [])]


def _share(kept: Estimate) -> str:
    ends = f"95 % interval over users {words.percent(kept.low, 1)} to {words.percent(kept.high, 1)}"
    return f"{words.percent(kept.mean, 1)} ({ends})"


def by_step(split: SplitResult, walk: WalkResult) -> Markup:
    """The metric of each step's cases, by arm."""
    lines = [Curve(arm.name, _kind(split, arm), list(enumerate(arm.values, start=1))) for arm in _drawn(walk)]
    name = words.metric(split.primary)
    return plots.curves(lines, title=f"{name} by {walk.window}", x_title=f"{walk.window} of the walk", y_title="")


def kept(split: SplitResult, walk: WalkResult) -> Markup | None:
    """The share of the reference's metric that each other arm has kept so far; None for a short walk, or without it."""
    whole = next((arm for arm in walk.arms if arm.name == walk.reference), None)
    others = [arm for arm in walk.arms if arm.kept is not None]
    if whole is None or not others or len(walk.steps) <= _SETTLED or not any(whole.values[:_SETTLED]):
        return None
    counts = [step.cases for step in walk.steps]
    sums = {arm.name: list(accumulate(v * n for v, n in zip(arm.values, counts, strict=True))) for arm in walk.arms}
    lines = []
    for arm in others:
        shares = zip(sums[arm.name], sums[whole.name], strict=True)
        points = [(float(step), own / all_) for step, (own, all_) in enumerate(shares, start=1)]
        lines.append(Curve(arm.name, _kind(split, arm), points[_SETTLED - 1 :]))
    least = min(share for line in lines for _, share in line.points)
    title = f"Share of the {words.metric(split.primary)} of {whole.name} that is kept, all steps so far"
    floor = max(0.0, int(least * 20) / 20 - 0.05)
    return plots.curves(lines, title=title, x_title=f"{walk.window} of the walk", y_title="", floor=floor)


def overview(split: SplitResult) -> Grid:
    """The arms of a walk: what they keep, what learning costs; no rows without a walk."""
    walk = split.walk
    columns = ["arm", "kept", f"time by {walk.window}" if walk else "", "share of the time", "processor time", "share"]
    rows = []
    for arm in walk.arms if walk else []:
        ends = f"{words.percent(arm.kept.low, 1)} to {words.percent(arm.kept.high, 1)}" if arm.kept else ""
        wall, cpu = (words.duration(sum(each) / len(each)) for each in (arm.seconds, arm.cpu_seconds))
        shares = [words.NONE if each is None else words.percent(each, 1) for each in (arm.cost, arm.cpu_cost)]
        kept_ = Cell(words.percent(arm.kept.mean, 1) if arm.kept else words.NONE, ends)
        rows.append([Cell(arm.name), kept_, Cell(wall), Cell(shares[0]), Cell(cpu), Cell(shares[1])])
    return Grid("What is kept, and its cost", columns, rows)


def steps(split: SplitResult, walk: WalkResult) -> Grid:
    """The metric and the time of each step, by arm."""
    name = words.metric(split.primary)
    columns = [walk.window, "cases", "learned since", *(f"{name}, {arm.name}" for arm in walk.arms)]
    columns += [f"time, {arm.name}" for arm in walk.arms if any(arm.seconds)]
    rows = [
        [
            Cell(step.begin[:10]),
            Cell(words.count(step.cases)),
            Cell(words.count(step.learned)),
            *(Cell(words.fraction(arm.values[at])) for arm in walk.arms),
            *(Cell(words.duration(arm.seconds[at])) for arm in walk.arms if any(arm.seconds)),
        ]
        for at, step in enumerate(walk.steps)
    ]
    return Grid(f"Each {walk.window}", columns, rows)


def _drawn(walk: WalkResult) -> list[WalkArm]:
    """At most three arms, or none could be told from another: the reference, and the first that learns and does not."""
    others = [arm for arm in walk.arms if arm.name != walk.reference]
    chosen = [next((arm for arm in others if any(arm.seconds) is learns), None) for learns in (True, False)]
    return [*(arm for arm in walk.arms if arm.name == walk.reference), *(arm for arm in chosen if arm is not None)]


def _kind(split: SplitResult, arm: WalkArm) -> str:
    return next(model.kind for model in split.models if model.name == arm.name)
