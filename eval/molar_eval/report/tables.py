"""Tables laid out as the papers': main table, and those of `tables.toml`: modality, component, aligner."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from molar_eval.report.schema import ModelResult, SplitResult, Table
from molar_eval.report.standing import reference

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
