"""A language model with an adapter on top, in a folder of peft's format that names the model beneath.

The adapter stays beside the weights: merged into weights of bfloat16 it would be rounded to them.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from molar_retrieval.encoders import runtime, tuned_folder
from molar_retrieval.encoders.base import Encoder, EncoderPlan, Planner
from molar_retrieval.encoders.checkpoint import Checkpoint
from molar_retrieval.encoders.sentence import SentenceEncoder
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

ADAPTER = 1
FAMILIES = ("multimodal-llm", "sentence-transformers")  # encoders that can bear an adapter


def plan(settings: EmbedSettings, checkpoint: Checkpoint, plan_of: Planner) -> EncoderPlan:
    """Describe the model beneath with the adapter in a folder.

    Raises:
        SettingsError: If what lies beneath cannot bear it, or the settings do not fit.
        BackendError: If it is not here, or another one than was trained.
    """
    beneath = _beneath(settings, checkpoint)
    under = plan_of(beneath)
    base = under.info
    if base.family not in FAMILIES:
        raise SettingsError(
            f"{checkpoint.folder} changes {beneath.model}, which is no language model", "train it again"
        )
    account = tuned_folder.read_account(checkpoint.folder)
    if (wanted := account.get("revision", base.revision)) != base.revision:
        raise BackendError(
            f"{checkpoint.folder} changes {beneath.model} as of {wanted[:16]}, and {base.revision[:16]} is here",
            "run `molar finetune` again, or bring back what it was trained on",
        )
    info = replace(
        base,
        name=settings.model,
        revision=checkpoint.revision,
        fingerprint=fingerprint.of_json(["adapter", ADAPTER, checkpoint.digest, base.fingerprint]),
        settings={"beneath": base.name, **base.settings},
    )

    def load() -> Encoder:
        from peft import PeftModel

        encoder = cast(SentenceEncoder, under.load())
        transformer: Any = encoder.model[0]
        with runtime.loading(settings.model), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going to change
            PeftModel.from_pretrained(transformer.model, str(checkpoint.complete()))  # changes the layers in place
        encoder.info = info
        return encoder

    return EncoderPlan(info, load)


def _beneath(settings: EmbedSettings, checkpoint: Checkpoint) -> EmbedSettings:
    name = checkpoint.config.get("base_model_name_or_path")
    if not name:
        raise SettingsError(f"{checkpoint.folder} does not say which model it changes", "train it again")
    tuned = tuned_folder.read_account(checkpoint.folder).get("embed", {})
    own = {key: tuned[key] for key in ("prompt", "dim") if getattr(settings, key) is None and key in tuned}
    revision = None if Path(name).is_dir() else checkpoint.config.get("revision")
    return settings.model_copy(update={"model": name, "revision": revision, **own})
