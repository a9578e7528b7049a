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


HEAD = "A fusion head over the frozen encoder"
ADAPTED = "A low-rank adaptation (LoRA) of"


def card(report: "FinetuneReport", encoder: Mapping[str, Any], what: str = HEAD, pool: str = "all items") -> str:
    """The card, as Markdown with the head that model hubs read.

    Args:
        report: What was trained.
        encoder: The account of the encoder beneath.
        what: What was put on it.
        pool: Among what withheld items had to be found.
    """
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

{what} `{report.encoder}` ({encoder["revision"]}), made by `molar finetune` on
{report.items:,} items and {report.interactions:,} training interactions of one shop; {report.parameters:,} parameters.
Use it with `molar embed CATALOG --model THIS_FOLDER`. It is made for the shop whose data it has seen.

Measured on {report.withheld:,} items that took no part while they were withheld, among {pool}:

| task | measure | before | after |
|---|---|---|---|
{rows}

The licence is that of the encoder beneath; the data of the shop shape what was put on it.
"""
