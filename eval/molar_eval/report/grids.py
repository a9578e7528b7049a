"""The tables of the page and the documents, cell by cell, with best and second best told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from molar_eval.report.schema import Comparison, Estimate, ModelResult, SplitResult, Table
from molar_eval.report.standing import compared, ordered
from molar_retrieval.reports import wording as words

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
