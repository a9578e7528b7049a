"""Write docs/results.md from the reports in eval/results; `make docs` runs this, a test checks that it was run.

Who wins, by how much, and where the rest is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molar_eval.modules import RESULTS as MODULES
from molar_eval.modules import of_modules
from molar_eval.report import tables
from molar_eval.report.page import read_report
from molar_eval.report.schema import ModelResult, Report, SplitResult
from molar_eval.report.tables import Cell, Grid, best, ordered
from molar_eval.report.verdict import declared, judge, prequential_sentences, shown
from molar_retrieval.reports import wording as words

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "eval" / "results"
TARGET = Path(__file__).with_name("results.md")
_HEAD = """# Results

Written by `docs/write_results.py` from the reports in `eval/results/`, never by hand. Every report has a verdict per \
split and the first models of its leaderboard: means, half of their 95 % interval (users are the clusters), `sd` over
seeds, the best of a column bold, the second underlined. Its name leads to all of it: every model, metric, slice, \
test, ablation and setting. p is that of a paired permutation test, \
corrected after Holm over all that was tested on a split.
"""
_FIRST = 5
"""How many models of a leaderboard are shown."""
STALE = "Stale: models, splits, metrics or statistics have changed since."
UNKNOWN = "Made before reports named their code, so whether other code made it is not known; run it again to know."


def results(reports: Mapping[str, Report], code: str | None = None) -> str:
    """The document: a chapter per data set, in it a section per suite.

    Args:
        reports: What it shows, by where the full report is, relative to the document.
        code: Fingerprint of the present code; reports that other code made are marked. None: none is.
    """
    parts, reports = [_HEAD], {link: shown(report) for link, report in reports.items()}
    for name in sorted({report.data.name for report in reports.values()}):
        mine = {link: report for link, report in reports.items() if report.data.name == name}
        data = max((report.data for report in mine.values()), key=lambda data: data.attributes is not None)
        size = f"{data.users:,} users, {data.items:,} items, {data.interactions:,} interactions"
        read = f"; attributes: {_plain(', '.join(data.attributes))}" if data.attributes else ""
        parts.append(f"## {_plain(name)}\n\n{size}{read}.\n")
        for suite in sorted({report.suite for report in mine.values()}):
            parts += _suite({link: report for link, report in mine.items() if report.suite == suite}, code)
    return "\n".join(parts)


def _suite(reports: Mapping[str, Report], code: str | None) -> list[str]:
    """A report of the present code before others, then of code that is known, then that with the most seeds and models.

    The others are named.
    """
    made_by = {link: report.made.code for link, report in reports.items()}
    link = max(
        reports, key=lambda at: (code is not None and made_by[at] == code, bool(made_by[at]), *_weight(reports[at]))
    )
    report = reports[link]
    made = report.made
    facts = [made.date, words.plural(made.cores, "core"), made.device, f"{words.duration(made.seconds)} of computing"]
    facts += [f"commit `{made.commit}`"] if made.commit else []
    lines = [f"{_plain(report.description)} {', '.join(facts)}; `{_command(report)}`."]
    if code is not None and made.code != code:
        lines.append(STALE if made.code else UNKNOWN)
    lines += [f"Scores flatter: {_plain(text)}." for text in dict.fromkeys(s.warning for s in report.splits) if text]
    lines += [f"See as well {_link(other)}." for other in reports if other != link]
    verdicts = _declared(report) + "".join(f"* {_verdict(split, report)}\n" for split in report.splits)
    section = [f"### {_plain(report.suite)}: {_link(link)}\n", " ".join(lines) + "\n", verdicts]
    return section if all(split.walk for split in report.splits) else [*section, table(_leaders(report))]


def _weight(report: Report) -> tuple[int, int]:
    models = [model for split in report.splits for model in split.models if model.kind != "ablation"]
    return max((len(model.seeds) for model in models), default=0), len(models)


def _declared(report: Report) -> str:
    """What came of the comparison that the suite declared, and how everybody did in that test; nothing without one."""
    primary = report.primary_comparison
    if primary is None or primary.comparison is None:
        return ""
    split = next(split for split in report.splits if split.name == primary.split)
    headline, (amount, *_) = declared(split, primary, primary.comparison)
    means = [f"{model.name} {words.fraction(model.metrics[split.primary].mean)}" for model in ordered(split)]
    said = f"declared beforehand: **{_plain(headline)}**. {_plain(amount)}"
    return f"* {said}\n* {_plain(_title(split))}, all: {_plain(', '.join(means))}.\n"


def _verdict(split: SplitResult, report: Report) -> str:
    verdict = judge(split, report.made)
    text = f"{_plain(_title(split))}: **{_plain(verdict.headline)}**"
    kept = "".join(f" {_plain(sentence)}" for sentence in prequential_sentences(split))
    change = f": {words.metric(split.primary)} {_plain(verdict.change)}" if verdict.change else ""
    return f"{text}{change}.{kept}"


def _title(split: SplitResult) -> str:
    return ": ".join(dict.fromkeys(split.title.split(": ")))


def _command(report: Report) -> str:
    """The command with the arguments that anybody needs; the report has it whole."""
    return f"molar evaluate path/to/{report.data.name} --suite {report.suite}".replace("`", "")


def _link(at: str) -> str:
    name = at.removesuffix("/report.json").removesuffix(".json").rpartition("/")[2]
    return f"[{_plain(name)}]({at})"


def _leaders(report: Report) -> Grid:
    """The first models, ordered by the first split, and their primary metric on every split."""
    shown = _first(report.splits[0])
    columns: dict[str, list[Cell]] = {}
    for split in report.splits:
        title = words.metric(split.primary) + (f", {_title(split)}" if len(report.splits) > 1 else "")
        cells = dict(zip([model.name for model in ordered(split)], tables.primary(split), strict=True))
        columns[title] = [cells.get(model.name, Cell(words.NONE)) for model in shown]
    columns["trained in"] = [Cell(words.duration(model.fit_seconds)) for model in shown]
    rows = [[Cell(model.name), *(cells[at] for cells in columns.values())] for at, model in enumerate(shown)]
    return Grid("", ["model", *columns], rows)


def _first(split: SplitResult) -> list[ModelResult]:
    """The best models, ours and the best baseline among them whatever their place; no ablations."""
    models = [model for model in ordered(split) if model.kind != "ablation"] or ordered(split)
    needed = [model for model in (best(split, "ours"), best(split, "baseline")) if model]
    kept = [model for model in models if model not in needed][: _FIRST - len(needed)]
    return [model for model in models if model in needed or model in kept]


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


_PLANTED = """
## Planted faults: what `molar check` finds

Faults are put at known places of a catalogue (`bench/faults.py`) and of a made-up log (`bench/log_faults.py`), and the
findings compared with them: `make bench-check`. Precision counts every finding of a kind that the catalogue did not
have before; real items have faults of their own, so there a finding that is counted as wrong need not be.

| catalogue | kinds of fault | planted | found | precision | kinds not all found | photos exchanged: AUC | date |
|---|---:|---:|---:|---:|---|---:|---|
"""


def planted(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The chapter; nothing where there are no results.

    Args:
        results: As `bench/check.py` writes them, by where they lie, relative to the document.
    """
    if not results:
        return ""
    return _PLANTED + "".join(f"{_planted_row(link, result)}\n" for link, result in results.items())


def _planted_row(link: str, result: Mapping[str, Any]) -> str:
    kinds = result["kinds"]
    count = {name: sum(row[name] for row in kinds.values()) for name in ("planted", "found", "wrong")}
    missed = [f"`{kind}` {row['recall']:.3f}" for kind, row in kinds.items() if row["recall"] not in (None, 1)]
    right = count["found"] / (count["found"] + count["wrong"]) if count["found"] else 0.0
    pairs = [row["auc"] for row in result.get("pairs", {}).values() if isinstance(row, Mapping)]
    return (
        f"| [{result['name']}]({link}) | {len(kinds)} | {count['planted']:,} | {count['found']:,} | {right:.3f} | "
        f"{', '.join(missed) or 'none'} | {', '.join(f'{auc:.3f}' for auc in pairs) or words.NONE} | {result['made']} |"
    )


def reports(folder: Path) -> list[Path]:
    """The reports: ``NAME.json`` and ``NAME/report.json``."""
    return sorted([*folder.glob("*.json"), *folder.glob("*/report.json")])


def _place(path: Path, folder: Path) -> str:
    return f"../eval/results/{path.relative_to(folder).as_posix()}"


def render(folder: Path = RESULTS) -> str:
    """The document; reports that other code made than the present one are marked."""
    found = {_place(path, folder): read_report(path) for path in reports(folder)}
    checks = {_place(path, folder): json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("check/*.json"))}
    return results(found, of_modules(*MODULES)) + planted(checks)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
