"""The model card that lies beside a fine-tuned encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molar_retrieval.finetuning.run import FinetuneReport

MEASURES = {"attributes": "Recall@10", "image_text": "Recall@10", "behaviour": "NDCG@10"}
TASKS = {
    "attributes": "attributes find the title and description",
    "image_text": "photos find title and description, and back",
    "behaviour": "histories find the items that come next",
}


def card(report: "FinetuneReport", encoder: Mapping[str, Any]) -> str:
    """The card, as Markdown with the head that model hubs read."""
    languages = "".join(f"\n- {language}" for language in encoder.get("languages", ())) or " []"
    rows = "\n".join(
        f"| {TASKS[task.name]} | {task.left_out} | | |"
        if task.left_out
        else f"| {TASKS[task.name]} | {MEASURES[task.name]} | {task.before:.4f} | {task.after:.4f} |"
        for task in report.tasks
    )
    return f"""---
license: {str(encoder.get("licence", "unknown")).lower()}
language:{languages}
library_name: molar-retrieval
base_model: {encoder["name"]}
---

# {report.encoder}, fine-tuned

A fusion head over the frozen encoder `{report.encoder}` ({encoder["revision"]}), fitted by `molar finetune` on
{report.items:,} items and {report.interactions:,} training interactions of one shop; {report.parameters:,} parameters.
Use it with `molar embed CATALOG --model THIS_FOLDER`. It is made for the shop whose data fitted it.

Measured on {report.withheld:,} items that took no part while they were withheld, in three sets, among all items:

| task | measure | before | after |
|---|---|---|---|
{rows}

The licence is that of the encoder beneath; the data of the shop shape the head.
"""
