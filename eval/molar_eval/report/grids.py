"""The tables of the page and the documents, cell by cell, with best and second best told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from molar_eval.report.schema import Comparison, Estimate, ModelResult, SplitResult, Table
from molar_eval.report.standing import compared, ordered, reference
from molar_retrieval.pages import words


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: The main thing.
        aside: What stands smaller beside it.
        place: 1 for the best of its column, 2 for the second, 0 otherwise.
    """

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
        return [any(_wordy(row[at]) for row in self.rows) for at in range(len(self.columns))]


def _wordy(cell: Cell) -> bool:
    return bool(cell.aside) or cell.text[:1].isalpha()


def of_table(table: Table) -> Grid:
    """A table of numbers, the higher the better."""
    columns = [_column([_number(row[at]) for row in table.rows]) for at in range(len(table.columns))]
    rows = [
        [Cell(value) if isinstance(value, str) else columns[at][line] for at, value in enumerate(row)]
        for line, row in enumerate(table.rows)
    ]
    return Grid(table.title, table.columns, rows, table.note)


def _number(value: str | float | None) -> float | None:
    return None if isinstance(value, str) else value


def _column(values: Sequence[float | None], asides: Sequence[str] = ()) -> list[Cell]:
    shown = [words.fraction(value) for value in values]
    ranked = sorted({text for text, value in zip(shown, values, strict=True) if value is not None}, reverse=True)
    place = {text: at for at, text in enumerate(ranked[:2], start=1)} if len(ranked) > 1 else {}
    notes = asides or [""] * len(shown)
    return [Cell(text, note, place.get(text, 0)) for text, note in zip(shown, notes, strict=True)]


def _estimates(title: str, models: Sequence[ModelResult], columns: dict[str, list[Estimate | None]]) -> Grid:
    cells = [
        _column([e.mean if e else None for e in estimates], [_aside(e) for e in estimates])
        for estimates in columns.values()
    ]
    rows = [[Cell(model.name), *(column[line] for column in cells)] for line, model in enumerate(models)]
    return Grid(title, ["model", *columns], rows)


def _aside(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    spread = "" if estimate.sd is None else f", sd {estimate.sd:.4f}"
    return words.half(estimate) + spread


def primary(split: SplitResult) -> list[Cell]:
    """The metric that a split is judged by, of each model, best first."""
    found = [model.metrics.get(split.primary) for model in ordered(split)]
    return _column([e.mean if e else None for e in found], [_aside(e) for e in found])


def leaderboard(split: SplitResult) -> Grid:
    """What matters of each model: two metrics, the difference to the split's baseline, times."""
    second = f"recall@{words.cutoff(split.primary)}"
    names = [n for n in dict.fromkeys([split.primary, second]) if any(n in m.metrics for m in split.models)]
    models = ordered(split)
    columns = [[m.metrics.get(name) for m in models] for name in names]
    cells = [_column([e.mean if e else None for e in c], [_aside(e) for e in c]) for c in columns]
    rows = []
    for line, model in enumerate(models):
        test = compared(model, split.against, split.primary)
        aside = f"{words.half(test.difference)}, {words.p_value(test.p_holm)}" if test else ""
        difference = Cell(words.signed(test.difference.mean) if test else words.NONE, aside)
        rows.append([Cell(model.name), *(column[line] for column in cells), difference, *_times(model)])
    titles = ["model", *map(words.metric, names), f"minus {split.against}", "trained in", "ranked in"]
    return Grid("Overview", titles, rows)


def _times(model: ModelResult) -> list[Cell]:
    return [Cell(words.duration(model.fit_seconds)), Cell(words.duration(model.score_seconds))]


def metrics(split: SplitResult) -> Grid:
    """Models by metrics: mean, half width of the interval, standard deviation over seeds."""
    models = ordered(split)
    names = _keys(models, lambda model: model.metrics)
    columns = {words.metric(name): [m.metrics.get(name) for m in models] for name in names}
    return _estimates("All metrics", models, columns)


def lists(split: SplitResult) -> Grid:
    """Models by what their lists are like."""
    models = [model for model in ordered(split) if model.lists]
    names = _keys(models, lambda model: model.lists)
    rows = [[Cell(m.name), *(Cell(words.number(m.lists.get(name))) for name in names)] for m in models]
    return Grid("What the lists are like", ["model", *map(words.metric, names)], rows)


def slices(split: SplitResult, dimension: str) -> Grid:
    """Models by the parts of one dimension, primary metric."""
    models = [model for model in ordered(split) if dimension in model.slices]
    parts = {part.value: part for model in models for part in model.slices[dimension]}
    columns = {}
    for value, part in parts.items():
        found = [{p.value: p for p in m.slices[dimension]}.get(value) for m in models]
        columns[f"{value} ({words.plural(part.users, 'user')})"] = [
            (p.metrics or {}).get(split.primary) if p else None for p in found
        ]
    return _estimates(dimension, models, columns)


def comparisons(split: SplitResult) -> Grid:
    """Every test that was made: model and baseline by metric."""
    names = _keys(split.models, lambda model: model.versus)
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


def ablations(split: SplitResult) -> Grid:
    """What each ablation loses against the full model."""
    full = reference(split)
    rows = []
    for model in ordered(split):
        if full is None or model.kind != "ablation" or model is full:
            continue
        if split.primary not in model.metrics or split.primary not in full.metrics:
            continue
        mean = model.metrics[split.primary].mean
        test = compared(model, full.name, split.primary)
        untested = Cell(words.signed(mean - full.metrics[split.primary].mean), "not tested")
        rows.append([Cell(model.name), Cell(words.fraction(mean)), _test(test) if test else untested])
    name = words.metric(split.primary)
    return Grid("Ablations", ["model", name, f"minus {full.name if full else ''}"], rows)


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
    rows = [
        [
            Cell(f"{point.weight:g}"),
            *(Cell(words.fraction(point.metrics[name])) for name in names),
            Cell(words.fraction(point.diversity)),
            Cell(words.fraction(point.coverage)),
        ]
        for point in split.trade_off
    ]
    columns = ["diversity", *map(words.metric, names), "unlikeness in a list", "share of the catalogue shown"]
    return Grid("What diversity costs", columns, rows)


def _lost(served: float | None, exact: float | None) -> str:
    return "" if served is None or exact is None else f"{words.signed(served - exact)} to exact"


def kpi(split: SplitResult) -> Grid:
    """Business figures, looked back at."""
    models = [model for model in ordered(split) if model.kpi]
    names = _keys(models, lambda model: model.kpi)
    rows = [[Cell(m.name), *(_figure(m.kpi.get(name)) for name in names)] for m in models]
    return Grid("Business figures", ["model", *map(words.metric, names)], rows)


def _figure(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(words.NONE)
    return Cell(words.number(estimate.mean), f"{words.number(estimate.low)} to {words.number(estimate.high)}")


def _keys(models: Sequence[ModelResult], part: Callable[[ModelResult], Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for model in models for key in part(model)))
