"""Tables of a report."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from molar_eval.report.schema import Comparison, Estimate, ModelResult, SliceScore, SplitResult, Table
from molar_retrieval.reports import wording as words

_REFERENCES = ("molar (fast)", "molar")


@dataclass(frozen=True)
class Weakness:
    """A part of the cases, one value of a dimension, in which our metric is below that of the best baseline there."""

    dimension: str
    value: str
    users: int
    ours: Estimate
    baseline: str
    theirs: Estimate

    @property
    def clear(self) -> bool:
        """Whether the two intervals lie apart."""
        return self.ours.high < self.theirs.low


def best(split: SplitResult, kind: str) -> ModelResult | None:
    """The best model of a kind by the split's primary metric."""
    models = [model for model in split.models if model.kind == kind and split.primary in model.metrics]
    return max(models, key=lambda model: model.metrics[split.primary].mean, default=None)


def ordered(split: SplitResult) -> list[ModelResult]:
    """The models by the primary metric, best first; those without it last."""
    lowest = float("-inf")
    return sorted(
        split.models,
        key=lambda model: model.metrics[split.primary].mean if split.primary in model.metrics else lowest,
        reverse=True,
    )


def reference(split: SplitResult) -> ModelResult | None:
    """What ablations are compared with: the full model, trained as they are."""
    by_name = {model.name: model for model in split.models}
    return next((by_name[name] for name in _REFERENCES if name in by_name), None)


def compared(model: ModelResult, baseline: str, metric: str) -> Comparison | None:
    """The test of a model against a baseline, where there was one."""
    return next((c for c in model.versus.get(metric, []) if c.baseline == baseline), None)


def baselines(split: SplitResult) -> list[ModelResult]:
    """What ours is compared to."""
    return [model for model in split.models if model.kind == "baseline"]


def best_there(split: SplitResult, dimension: str, value: str) -> tuple[Estimate, str] | None:
    """The best baseline in a part of the cases: its primary metric and its name; None where none can be told."""
    found = [
        (estimate, model.name)
        for model in baselines(split)
        for part in model.slices.get(dimension, [])
        if part.value == value and (estimate := part.get(split.primary)) is not None
    ]
    return max(found, key=lambda rival: rival[0].mean, default=None)


def told_apart(split: SplitResult, part: SliceScore, dimension: str) -> bool:
    """Whether ours and the best baseline of a part of the cases have intervals that do not touch."""
    mine, there = part.get(split.primary), best_there(split, dimension, part.value)
    return mine is not None and there is not None and (mine.low > there[0].high or there[0].low > mine.high)


def weaknesses(split: SplitResult, ours: ModelResult | None) -> tuple[list[Weakness], int]:
    """Where ours is below the best baseline there, clear cases first; and in how many parts that was looked for."""
    weak, judged = [], 0
    for dimension, parts in ours.slices.items() if ours else ():
        for part in parts:
            mine, there = part.get(split.primary), best_there(split, dimension, part.value)
            if mine is None or there is None:
                continue
            judged += 1
            theirs, name = there
            if theirs.mean > mine.mean:
                weak.append(Weakness(dimension, part.value, part.users, mine, name, theirs))
    return sorted(weak, key=lambda w: (not w.clear, w.ours.mean - w.theirs.mean)), judged


LEADERBOARD = {
    "split": "string",
    "model": "string",
    "metric": "string",
    "mean": "double",
    "low": "double",
    "high": "double",
    "against": "string",
    "difference": "double",
    "p_holm": "double",
    "fit_seconds": "double",
}
"""Columns of a leaderboard and their Arrow types."""


def standings(split: SplitResult, metric: str | None = None) -> list[dict[str, object]]:
    """The models of a test as rows of a leaderboard, by the primary metric, best first; with the figures of another."""
    rows: list[dict[str, object]] = []
    name = metric or split.primary
    for model in ordered(split):
        found, test = model.metrics.get(name), compared(model, split.against, name)
        rows.append(
            {
                "split": split.name,
                "model": model.name,
                "metric": name,
                "mean": found and found.mean,
                "low": found and found.low,
                "high": found and found.high,
                "against": split.against,
                "difference": test and test.difference.mean,
                "p_holm": test and test.p_holm,
                "fit_seconds": model.fit_seconds,
            }
        )
    return rows


_COLUMNS = {f"{short}@{k}": f"{name}@{k}" for short, name in (("N", "ndcg"), ("R", "recall")) for k in (10, 20, 50)}
_TUNED = "content kNN (fine-tuned)"
_HELD_OUT = "cold items, cold"
_FOUND = {"before": "the encoder as it is", "after": "fine-tuned"}


@cache
def _laid_out() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("tables.toml").read_text("utf-8"))["table"]
    return tables


def paper_tables(split: SplitResult) -> list[Table]:
    """The tables that the split's models fill; a table of ablations needs its full model and at least one of them.

    The full model of the ablations is "molar (fast)", which is trained as they are, or "molar" where there is none.
    """
    by_name = {model.name: model for model in split.models}
    main = {m.name: m for kind in ("baseline", "ours") for m in split.models if m.kind == kind}
    tables = [_table(f"Main results, {split.title}", "", main)] if main else []
    for layout in _laid_out():
        rows = {label: by_name[name] for name, label in layout["rows"].items() if name in by_name}
        full = reference(split)
        if full is not None and rows:
            rows[layout["as"]] = full
            tables.append(_table(f"{layout['title']}, {split.title}", f"Full model: {full.name}.", rows))
    if tuned := by_name.get(_TUNED):
        tables += _inside(split, tuned)
    return tables


def _inside(split: SplitResult, tuned: ModelResult) -> list[Table]:
    """How well photos and texts of items that took no part find each other; told once, with the cases of such items."""
    found = tuned.facts.get("catalogue", {})
    if not found or not split.name.endswith(_HELD_OUT):
        return []
    return [
        Table(
            title=f"Retrieval inside the catalogue, {split.title}",
            note="Recall@10 of items that took no part in fine-tuning, among all; of the first seed.",
            columns=["model", "photo → text", "text → photo"],
            rows=[[label, *found[name]] for name, label in _FOUND.items()],
        )
    ]


def _table(title: str, note: str, models: Mapping[str, ModelResult]) -> Table:
    columns = {short: name for short, name in _COLUMNS.items() if any(name in m.metrics for m in models.values())}
    rows: list[list[str | float | None]] = [
        [label, *(model.metrics[name].mean if name in model.metrics else None for name in columns.values())]
        for label, model in models.items()
    ]
    return Table(title=title, note=note, columns=["model", *columns], rows=rows)


V = TypeVar("V")


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, the ``aside`` smaller; best of its column is place 1, second 2, all others have 0."""

    text: str
    aside: str = ""
    place: int = 0


@dataclass(frozen=True)
class Grid:
    """A table ready to be set; the first column names the rows."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""

    @property
    def left(self) -> list[bool]:
        """Whether each column begins at its left: words, and numbers with something beside them."""
        cells = [[row[at] for row in self.rows] for at in range(len(self.columns))]
        return [any(bool(cell.aside) or cell.text[:1].isalpha() for cell in column) for column in cells]

    def by_cutoff(self) -> dict[str, "Grid"]:
        """The columns of each cutoff as a table of their own, by cutoff."""
        cutoffs = [words.cutoff(column) for column in self.columns]
        return {k: self._of([0, *(at for at, own in enumerate(cutoffs) if own == k and at)]) for k in cutoffs[1:]}

    def _of(self, places: Sequence[int]) -> "Grid":
        rows = [[row[at] for at in places] for row in self.rows]
        return Grid(self.title, [self.columns[at] for at in places], rows, self.note)


def of_table(table: Table) -> Grid:
    """A table of numbers, the higher the better."""
    numbers = [[None if isinstance(value, str) else value for value in row] for row in table.rows]
    columns = [_column([row[at] for row in numbers]) for at in range(len(table.columns))]
    rows = [
        [Cell(value) if isinstance(value, str) else columns[at][line] for at, value in enumerate(row)]
        for line, row in enumerate(table.rows)
    ]
    return Grid(table.title, table.columns, rows, table.note)


def _column(values: Sequence[float | None], asides: Sequence[str] = ()) -> list[Cell]:
    shown = [words.fraction(value) for value in values]
    ranked = sorted({text for text, value in zip(shown, values, strict=True) if value is not None}, reverse=True)
    place = {text: at for at, text in enumerate(ranked[:2], start=1)} if len(ranked) > 1 else {}
    notes = asides or [""] * len(shown)
    return [Cell(text, note, place.get(text, 0)) for text, note in zip(shown, notes, strict=True)]


def _estimates(title: str, models: Sequence[ModelResult], columns: Mapping[str, Sequence[Estimate | None]]) -> Grid:
    cells = [_measured(estimates) for estimates in columns.values()]
    rows = [[Cell(model.name), *(column[line] for column in cells)] for line, model in enumerate(models)]
    return Grid(title, ["model", *columns], rows)


def _measured(estimates: Sequence[Estimate | None]) -> list[Cell]:
    """A column of means with half the width of their intervals, and the standard deviation over seeds."""
    spreads = ["" if e is None or e.sd is None else f", sd {e.sd:.4f}" for e in estimates]
    asides = [e.half + spread if e else "" for e, spread in zip(estimates, spreads, strict=True)]
    return _column([e.mean if e else None for e in estimates], asides)


def primary(split: SplitResult) -> list[Cell]:
    """The metric that a split is judged by, of each model, best first."""
    return _measured([model.metrics.get(split.primary) for model in ordered(split)])


def leaderboard(split: SplitResult) -> Grid:
    """What matters of each model: two metrics, the difference to the split's baseline, times."""
    second = f"recall@{words.cutoff(split.primary)}"
    names = [n for n in dict.fromkeys([split.primary, second]) if any(n in m.metrics for m in split.models)]
    models = ordered(split)
    cells = [_measured([model.metrics.get(name) for model in models]) for name in names]
    rows = []
    for line, model in enumerate(models):
        test = compared(model, split.against, split.primary)
        aside = f"{test.difference.half}, {words.p_value(test.p_holm)}" if test else ""
        difference = Cell(words.signed(test.difference.mean) if test else words.NONE, aside)
        times = [Cell(words.duration(seconds)) for seconds in (model.fit_seconds, model.score_seconds)]
        rows.append([Cell(model.name), *(column[line] for column in cells), difference, *times])
    titles = ["model", *map(words.metric, names), f"minus {split.against}", "trained in", "ranked in"]
    return Grid("Overview", titles, rows)


def metrics(split: SplitResult) -> Grid:
    """Models by metrics: mean, half width of the interval, standard deviation over seeds."""
    models = ordered(split)
    names = dict.fromkeys(name for model in models for name in model.metrics)
    return _estimates("All metrics", models, {words.metric(n): [m.metrics.get(n) for m in models] for n in names})


def lists(split: SplitResult) -> Grid:
    """Models by what their lists are like."""
    found = {model.name: model.lists for model in ordered(split)}
    return _named("What the lists are like", found, lambda value: Cell(words.number(value)))


def kpi(split: SplitResult) -> Grid:
    """Business figures, looked back at."""

    def cell(estimate: Estimate | None) -> Cell:
        if estimate is None:
            return Cell(words.NONE)
        return Cell(words.number(estimate.mean), f"{words.number(estimate.low)} to {words.number(estimate.high)}")

    return _named("Business figures", {model.name: model.kpi for model in ordered(split)}, cell)


def _named(title: str, models: Mapping[str, Mapping[str, V]], cell: Callable[[V | None], Cell]) -> Grid:
    """The models that have any values, by all names that values have."""
    names = list(dict.fromkeys(name for values in models.values() for name in values))
    rows = [[Cell(model), *(cell(values.get(n)) for n in names)] for model, values in models.items() if values]
    return Grid(title, ["model", *map(words.metric, names)], rows)


def dimensions(split: SplitResult) -> list[str]:
    """By what the cases are parted."""
    return list(dict.fromkeys(name for model in split.models for name in model.slices))


def slices(split: SplitResult, dimension: str) -> Grid:
    """Models by the parts of one dimension, primary metric."""
    models = [model for model in ordered(split) if dimension in model.slices]
    parts = [{part.value: part for part in model.slices[dimension]} for model in models]
    columns = {
        f"{value} ({words.plural(part.users, 'user')})": [
            own[value].get(split.primary) if value in own else None for own in parts
        ]
        for value, part in {value: part for own in parts for value, part in own.items()}.items()
    }
    return _estimates(dimension, models, columns)


def comparisons(split: SplitResult) -> Grid:
    """Every test that was made: model and baseline by metric."""
    names = list(dict.fromkeys(name for model in split.models for name in model.versus))
    rows = []
    for model in ordered(split):
        for baseline in dict.fromkeys(c.baseline for tests in model.versus.values() for c in tests):
            tests = [compared(model, baseline, name) for name in names]
            rows.append([Cell(model.name), Cell(baseline), *map(_test, tests)])
    return Grid("Differences", ["model", "minus", *map(words.metric, names)], rows)


def _test(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(words.NONE)
    change = comparison.difference
    ends = f"{words.signed(change.low)} to {words.signed(change.high)}"
    return Cell(words.signed(change.mean), f"{ends}, {words.p_value(comparison.p_holm)}")


def index(split: SplitResult) -> Grid:
    """What each index loses against exact search on the same queries."""
    wanted = dict.fromkeys((split.primary, f"recall@{words.cutoff(split.primary)}"))
    names = [name for name in wanted if any(name in cost.metrics for cost in split.index)]
    rows = []
    for cost in split.index:
        lost = [
            Cell(words.fraction(cost.metrics.get(name)), _lost(cost.metrics.get(name), cost.exact_metrics.get(name)))
            for name in names
        ]
        speed = words.duration(cost.milliseconds / 1000)
        rows.append([Cell(cost.backend), Cell(words.percent(cost.recall, 2)), *lost, Cell(speed)])
    columns = ["index", "found", *map(words.metric, names), "per query"]
    return Grid("What the index costs", columns, rows)


def trade_off(split: SplitResult) -> Grid:
    """Quality and variety of the lists under several weights of diversity."""
    names = list(split.trade_off[0].metrics) if split.trade_off else []
    rows = []
    for point in split.trade_off:
        values = [*(point.metrics[name] for name in names), point.diversity, point.coverage]
        rows.append([Cell(f"{point.weight:g}"), *(Cell(words.fraction(value)) for value in values)])
    columns = ["diversity", *map(words.metric, names), "unlikeness in a list", "share of the catalogue shown"]
    return Grid("What diversity costs", columns, rows)


def _lost(served: float | None, exact: float | None) -> str:
    return "" if served is None or exact is None else f"{words.signed(served - exact)} to exact"
