"""Reports as Markdown: what `docs/results.md` is made of."""

import re
from collections.abc import Sequence

from molar_eval.report import grids, words
from molar_eval.report.grids import Cell, Grid
from molar_eval.report.schema import Report, SplitResult
from molar_eval.report.verdict import judge

_HEAD = """# Results

Written by `docs/write_results.py` from the reports in `eval/results/`, never by hand. Numbers are means with half of
their 95 % interval (users are the clusters), `sd` the standard deviation over seeds; p is that of a paired permutation
test, corrected after Holm over all that was tested on a split. The best of a column is bold, the second underlined.
Fitting times are wall time on the cores named with each run. The reports hold more: every metric at every cutoff,
slices by columns of the catalogue, what validation tried, all settings.
"""
STALE = "Stale: models, splits, metrics or statistics have changed since this report was made.\n"
UNKNOWN = "Stale, maybe: this report was made before reports knew their commit and code.\n"
_DIMENSIONS = ("popularity", "history")


def results(reports: Sequence[Report], code: str | None = None) -> str:
    """The document: a chapter per data set, in it a section per suite and split.

    Args:
        reports: What it shows.
        code: Fingerprint of the present code; reports that other code made are marked. None: none is.
    """
    parts = [_HEAD]
    for name in sorted({report.data.name for report in reports}):
        parts.append(f"## {_plain(name)}\n")
        for report in sorted((r for r in reports if r.data.name == name), key=lambda r: r.suite):
            parts += _report(report, code)
    return "\n".join(parts)


def _report(report: Report, code: str | None) -> list[str]:
    made, data = report.made, report.data
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    size = f"{data.users:,} users, {data.items:,} items, {data.interactions:,} interactions"
    parts = [
        f"### {_plain(data.name)}, suite {_plain(report.suite)}\n",
        f"{_plain(report.description)}\n",
        f"```text\n{made.command.replace('```', '')}\n```\n",
        f"{_plain(made.date)}, {words.plural(made.cores, 'core')}, {_plain(made.device)}, "
        f"{words.duration(made.seconds)} of computing; {size} (fingerprint `{_plain(data.fingerprint)}`); "
        f"molar {_plain(made.molar)}{f', commit `{_plain(made.commit)}`' if made.commit else ''}"
        f"{', ' if versions else ''}{_plain(versions)}.\n",
    ]
    if code is not None and made.code != code:
        parts.append(STALE if made.code else UNKNOWN)
    if report.notes:
        parts.append("\n".join(f"* {_plain(note)}" for note in report.notes) + "\n")
    for split in report.splits:
        parts += _split(split, report)
    parts += [table for found in report.tables for table in _section(grids.of_table(found))]
    return parts


def _split(split: SplitResult, report: Report) -> list[str]:
    verdict = judge(split, report.made)
    size = (
        f"{words.plural(split.cases, 'case')} of {words.plural(split.users, 'user')}, {split.candidates:,} candidates"
    )
    seen = "hidden" if split.seen == "hide" else "may come again"
    names = f"tested against {_plain(split.against)}; fingerprint `{_plain(split.fingerprint)}`"
    parts = [
        f"#### {_plain(split.title)}\n",
        f"{size}, seen items {seen}; {names}.\n",
        f"**{_plain(verdict.headline)}.** {_plain(' '.join(verdict.sentences))}\n",
    ]
    if split.warning:
        parts.append(f"Caution: {_plain(split.warning)}.\n")
    for grid in (grids.leaderboard(split), grids.ablations(split)):
        parts += _section(grid)
    for dimension in _DIMENSIONS:
        grid = grids.slices(split, dimension)
        if len(grid.columns) > 2:  # with one value it is the overview again
            parts += _section(grid, f"{words.metric(split.primary)} by {dimension}")
    for grid in (
        _at(split.primary, grids.lists(split)),
        grids.index(split),
        grids.trade_off(split),
        _at(split.primary, grids.kpi(split)),
    ):
        parts += _section(grid)
    return parts


def _at(primary: str, grid: Grid) -> Grid:
    """The columns at the cutoff that the split is judged by."""
    tail = f"@{words.cutoff(primary)}"
    kept = [n for n, column in enumerate(grid.columns) if "@" not in column or column.endswith(tail)]
    rows = [[row[n] for n in kept] for row in grid.rows]
    return Grid(grid.title, [grid.columns[n] for n in kept], rows, grid.note)


def _section(grid: Grid, title: str = "") -> list[str]:
    """A table with its title; nothing where it has no rows."""
    if not grid.rows:
        return []
    note = f" {_plain(grid.note)}" if grid.note else ""
    return [f"**{_plain(title or grid.title)}**{note}\n", table(grid)]


def table(grid: Grid) -> str:
    """A table; all columns but the first are aligned to the right."""
    lines = [
        _line([_plain(column) for column in grid.columns]),
        "|---" + "|---:" * (len(grid.columns) - 1) + "|",
        *(_line([_cell(cell) for cell in row]) for row in grid.rows),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _plain(cell.text)
    text = f"**{text}**" if cell.place == 1 else f"<u>{text}</u>" if cell.place == 2 else text
    return f"{text} {_plain(cell.aside)}" if cell.aside else text


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", " ".join(text.split()))
