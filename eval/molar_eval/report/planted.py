"""What a check finds of planted faults, as Markdown for `docs/results.md`."""

from collections.abc import Mapping
from typing import Any

from molar_retrieval.pages.words import NONE

_HEAD = """
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
    return _HEAD + "".join(f"{_row(link, result)}\n" for link, result in results.items())


def _row(link: str, result: Mapping[str, Any]) -> str:
    kinds = result["kinds"]
    count = {name: sum(row[name] for row in kinds.values()) for name in ("planted", "found", "wrong")}
    missed = [f"`{kind}` {row['recall']:.3f}" for kind, row in kinds.items() if row["recall"] not in (None, 1)]
    right = count["found"] / (count["found"] + count["wrong"]) if count["found"] else 0.0
    pairs = [row["auc"] for row in result.get("pairs", {}).values() if isinstance(row, Mapping)]
    return (
        f"| [{result['name']}]({link}) | {len(kinds)} | {count['planted']:,} | {count['found']:,} | {right:.3f} | "
        f"{', '.join(missed) or 'none'} | {', '.join(f'{auc:.3f}' for auc in pairs) or NONE} | {result['made']} |"
    )
