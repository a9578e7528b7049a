"""What the terminal prints: one table per split and the verdict below it, at most 100 columns wide."""

import textwrap
from dataclasses import dataclass

from molar_eval.report.bottom_line import declared
from molar_eval.report.naming import shown
from molar_eval.report.schema import ModelResult, Report, SplitResult
from molar_eval.report.standing import Weakness, compared, ordered
from molar_eval.report.verdict import judge
from molar_retrieval.reports import wording as words

WIDTH = 100
_SHOWN = 3


@dataclass(frozen=True)
class TerminalTable:
    """A table as the command's console prints it, and, in ``lines``, what is said below it.

    Columns that begin with ``>`` are aligned to the right.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[str]


def terminal_tables(report: Report) -> list[TerminalTable]:
    """One table per split: the models by the primary metric, best first."""
    report = shown(report)
    return [_table(split, report) for split in report.splits]


def _table(split: SplitResult, report: Report) -> TerminalTable:
    recall = f"recall@{words.cutoff(split.primary)}"
    second = recall if recall != split.primary and any(recall in m.metrics for m in split.models) else None
    columns = ["model", f">{words.metric(split.primary)}", *([f">{words.metric(second)}"] if second else [])]
    columns += [f">− {words.short(split.against)}", ">seconds"]
    verdict = judge(split, report.made)
    caption = f"* other than {split.against} with p < {words.ALPHA}: paired test, corrected after Holm"
    primary, said = report.primary_comparison, []
    if primary is not None and primary.comparison is not None and primary.split == split.name:
        headline, sentences = declared(split, primary, primary.comparison)
        said = [f"{headline}. {' '.join(sentences)}"]
    said += [" ".join(verdict.sentences) or f"{verdict.headline}.", _worse(verdict.weak, verdict.parts)]
    said += [f"Caution: {split.warning}."] if split.warning else []
    return TerminalTable(
        title=textwrap.shorten(f"{split.title}, {words.plural(split.cases, 'case')}", WIDTH, placeholder="…"),
        columns=columns,
        rows=[_row(model, split, second) for model in ordered(split)],
        lines=[line for text in (caption, *said) for line in textwrap.wrap(text, WIDTH)],
    )


def _row(model: ModelResult, split: SplitResult, second: str | None) -> list[str]:
    primary = model.metrics.get(split.primary)
    row = [words.short(model.name), f"{words.fraction(primary.mean)} {primary.half}" if primary else words.NONE]
    if second:
        row.append(words.fraction(model.metrics[second].mean if second in model.metrics else None))
    test = compared(model, split.against, split.primary)
    mark = "*" if test and test.p_holm < words.ALPHA else " "
    row.append(f"{words.signed(test.difference.mean)}{mark}" if test else words.NONE + " ")
    return [*row, f"{model.fit_seconds:,.1f}"]


def _worse(weak: list[Weakness], parts: int) -> str:
    if not weak:
        return f"In none of {words.plural(parts, 'group')} is another method better." if parts else ""
    found = [
        f"{w.dimension} {words.short(w.value)} ({words.short(w.baseline)}{'' if w.clear else ', perhaps by chance'})"
        for w in weak[:_SHOWN]
    ]
    rest = f" and {len(weak) - _SHOWN} more" if len(weak) > _SHOWN else ""
    return f"Worse than another method for: {', '.join(found)}{rest}; {words.plural(parts, 'group')} in all."
