"""What a run leaves behind: a model that `molar embed` takes, the adapter alone, an account and a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molar_retrieval.encoders import tuned_folder
from molar_retrieval.finetuning.lora.learner import Learner

ADAPTER = "adapter"
"""The folder of the adapter beside the merged model."""


def write(folder: Path, learner: Learner, account: Mapping[str, Any], card: str, *, merged: bool) -> None:
    """Write the encoder; merging ends the learner's life as one.

    Args:
        folder: Where it is to lie; one that it held before stays until this one is complete.
        learner: Trained.
        account: How, JSON-able.
        card: The model card.
        merged: Write the whole model with the adapter merged, and the adapter in a folder of its own; else that alone.

    Raises:
        DataError: If the folder holds something else.
    """
    made = tuned_folder.partial(folder)
    place = made / ADAPTER if merged else made
    learner.adapted.save_pretrained(str(place))
    tuned_folder.write_account(place, account)
    if merged:
        transformer: Any = learner.encoder.model[0]
        transformer.model = learner.adapted.merge_and_unload()
        if prompt := learner.encoder.info.settings["prompt"]:
            learner.encoder.model.prompts = {**learner.encoder.model.prompts, "document": str(prompt)}
        learner.encoder.model.save(str(made), create_model_card=False)
        tuned_folder.write_account(made, account)
    for readme in {made, place}:
        (readme / tuned_folder.CARD).write_text(card, "utf-8")
    tuned_folder.replace(folder, made)
