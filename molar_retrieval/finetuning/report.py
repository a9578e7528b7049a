"""What fine-tuning did: by task, as a report, and as the model card that lies beside the encoder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Name = Literal["behaviour", "attributes", "image_text"]
NAMES: tuple[Name, ...] = get_args(Name)
MEASURES = {"attributes": "Recall@10", "image_text": "Recall@10", "behaviour": "NDCG@10"}
TASKS = {
    "attributes": "attributes find the title and description",
    "image_text": "photos find title and description, and back",
    "behaviour": "histories find the items that come next",
}
HEAD = "A fusion head over the frozen encoder"
ADAPTED = "A low-rank adaptation (LoRA) of"


@dataclass(frozen=True)
class TaskOutcome:
    """What became of a task.

    Attributes:
        name: Of the task.
        before: How well withheld items were found with conditioning alone, of ``image_text`` by the encoder itself, in
            the task's measure.
        after: The same with what was trained.
        left_out: Why it took no part, or None.
    """

    name: Name
    before: float | None = None
    after: float | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class FinetuneReport:
    """What was trained.

    Attributes:
        folder: Of the fine-tuned encoder.
        encoder: That it moves.
        items: In the catalogue.
        interactions: That training saw.
        withheld: Items that only chose.
        tasks: What became of each task.
        chosen: What was chosen.
        parameters: Numbers that were trained.
        seconds: By stage.
        notes: What else there is to know.
        interrupted: Whether it was stopped before its end, and the same command goes on.
        up_to_date: Whether an earlier run had made it from the very same.
    """

    folder: Path
    encoder: str
    items: int
    interactions: int
    withheld: int
    tasks: tuple[TaskOutcome, ...]
    chosen: dict[str, Any]
    parameters: int
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    up_to_date: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder)}

    def account(self) -> dict[str, Any]:
        """What the folder keeps of it."""
        return {name: value for name, value in self.to_dict().items() if name != "folder"}


def card(report: FinetuneReport, encoder: Mapping[str, Any], what: str = HEAD, pool: str = "all items") -> str:
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

{what} `{report.encoder}` ({encoder["revision"]}), made by `molar finetune` on
{report.items:,} items and {report.interactions:,} training interactions of one shop; {report.parameters:,} parameters.
Use it with `molar embed CATALOG --model THIS_FOLDER`. It is made for the shop whose data it has seen.

Measured on {report.withheld:,} items that took no part while they were withheld, among {pool}:

| task | measure | before | after |
|---|---|---|---|
{rows}

The licence is that of the encoder beneath; the data of the shop shape what was put on it.
"""
