"""Models named for what they are: a part of the score that was tested has its second stage, where that was borne out.

The second stage reads more than the part, ALS factors among it. A report keeps the names of its suite, as keys.
"""

from collections.abc import Mapping
from typing import Any

from molar_eval.report.schema import ModelResult, PrimaryResult, Report, ReportExamples, SplitResult

_ALONE, _STAGED = " alone", " + second stage"


def shown(report: Report) -> Report:
    """The report as it is shown."""
    names = _names(report)
    splits = [_split(split, names) for split in report.splits]
    tables = [table.model_copy(update={"rows": [_row(row, names) for row in table.rows]}) for table in report.tables]
    if not names:
        return report
    primary = report.primary_comparison and _primary(report.primary_comparison, names)
    return report.model_copy(update={"splits": splits, "tables": tables, "primary_comparison": primary})


def shown_examples(examples: ReportExamples | None, report: Report) -> ReportExamples | None:
    """ReportExamples as they are shown, of a report with its own names."""
    names = _names(report)
    if examples is None or not names:
        return examples
    users = [
        user.model_copy(update={"lists": {names.get(name, name): items for name, items in user.lists.items()}})
        for user in examples.users
    ]
    return examples.model_copy(update={"users": users})


def _names(report: Report) -> dict[str, str]:
    staged = {
        model.name
        for split in report.splits
        for model in split.models
        if model.name.endswith(_ALONE) and (model.facts.get("reranking") or {}).get("used")
    }
    return {name: name.removesuffix(_ALONE) + _STAGED for name in staged}


def _split(split: SplitResult, names: Mapping[str, str]) -> SplitResult:
    models = [_model(model, names) for model in split.models]
    return split.model_copy(update={"models": models, "against": names.get(split.against, split.against)})


def _primary(primary: PrimaryResult, names: Mapping[str, str]) -> PrimaryResult:
    model, against = (names.get(name, name) for name in (primary.model, primary.against))
    return primary.model_copy(update={"model": model, "against": against})


def _row(row: list[Any], names: Mapping[str, str]) -> list[Any]:
    return [names.get(cell, cell) if isinstance(cell, str) else cell for cell in row]


def _model(model: ModelResult, names: Mapping[str, str]) -> ModelResult:
    versus = {
        metric: [one.model_copy(update={"baseline": names.get(one.baseline, one.baseline)}) for one in tests]
        for metric, tests in model.versus.items()
    }
    return model.model_copy(update={"name": names.get(model.name, model.name), "versus": versus})
