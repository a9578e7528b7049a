"""What a check finds of planted faults, as Markdown for `docs/results.md`."""

from collections.abc import Mapping, Sequence
from typing import Any

from molar_eval.report.words import NONE, plural

_HEAD = """
## Planted faults: what `molar check` finds

Faults are put at known places of a catalogue (`bench/faults.py`) and of a made-up log (`bench/log_faults.py`), and the
findings compared with them: `make bench-check`. Precision counts every finding of a kind that the catalogue did not
have before. A catalogue of real items has duplicates and the like of its own, so there a finding that is counted as
wrong need not be.
"""


def planted(results: Sequence[Mapping[str, Any]]) -> str:
    """The chapter; nothing where there are no results.

    Args:
        results: As `bench/check.py` writes them.
    """
    parts = [_HEAD] if results else []
    for result in results:
        parts.append(f"### {result['name']}\n")
        rows = [
            f"| `{kind}` | {row['planted']:,} | {row['found']:,} | {row['wrong']:,} | {_share(row['precision'])} | "
            f"{_share(row['recall'])} |"
            for kind, row in result["kinds"].items()
        ]
        parts.append(
            f"{result['made']}, molar {result['molar']}, {result['cores']} cores; {result['each']} items of each kind, "
            f"{plural(result['seeds'], 'time')}. Before anything was planted, {result['clean_items_with_errors']:,} of "
            f"{result['clean_items']:,} items had an error. A check takes {result['seconds']:.1f} s, the next one "
            f"{result['seconds_again']:.1f} s.\n"
        )
        head = "| fault | planted | found | wrong | precision | recall |\n|---|---:|---:|---:|---:|---:|"
        parts.append("\n".join([head, *rows]) + "\n")
        if "pairs" in result:
            parts.append(_pairs(result["pairs"]))
    return "\n".join(parts)


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _pairs(pairs: Mapping[str, Any]) -> str:
    lines = [
        f"Photos exchanged in pairs, {pairs['share']:.0%} of {pairs['items']:,} items with photo and words, vectors of "
        f"`{pairs['encoder']}`; AUC: how often an exchanged pair fits worse than a right one; "
        "asked directly: by the cosine of words and the photo's meaning, without learning.\n",
        "| exchanged | AUC | asked directly | items | pointed out | of them right | pairs named | of them right |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in pairs.values():
        if isinstance(row, Mapping):
            shown = f"within `{row['group']}`" if "group" in row else "with any item"
            lines.append(
                f"| {shown} | {row['auc']:.3f} | {row['auc_asked_directly']:.3f} | {row['exchanged']:.0f} | "
                f"{row['pointed_out']:.0f} | "
                f"{row['pointed_out_right']:.0f} | {row['pairs_named']:.0f} | {row['pairs_named_right']:.0f} |"
            )
    return "\n".join(lines) + "\n"
