"""A fine-tuned encoder in a folder: another encoder's vectors, moved by a fusion head that `molar finetune` wrote.

``config.json`` holds what lies beneath and the head's account, ``model.safetensors`` its arrays. The encoder beneath is
not copied; it must be the very one that was tuned.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from molar_retrieval.encoders import tuned_folder
from molar_retrieval.encoders.base import (
    Encoder,
    EncoderInfo,
    EncoderInput,
    EncoderPlan,
    Planner,
    refuse,
    refuse_precision,
)
from molar_retrieval.encoders.checkpoint import FUSED, Checkpoint, locate
from molar_retrieval.encoders.fusion import Rows
from molar_retrieval.encoders.head import FAMILY, FusionHead
from molar_retrieval.encoders.tuned_folder import CARD, CONFIG
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

ADAPTER = 2
WEIGHTS = "model.safetensors"
_BENEATH = ("model", "revision", "dim", "dtype", "prompt", "photos", "max_text_tokens", "image_pixels")
"""Settings that shape the vectors beneath."""


def plan(settings: EmbedSettings, checkpoint: Checkpoint, plan_of: Planner) -> EncoderPlan:
    """Describe the encoder in a folder.

    Raises:
        SettingsError: If the folder is damaged, or the settings do not fit.
        BackendError: If the encoder beneath is not here, or another one than was tuned.
    """
    refuse(settings, "dim", "prompt", why="it was fine-tuned with its own")
    refuse_precision(settings)
    beneath, head, wanted = _read(settings, checkpoint)
    under = plan_of(beneath)
    base = under.info
    if base.fingerprint != wanted:
        raise BackendError(
            f"{checkpoint.folder} tunes {beneath.model} as of {wanted[:16]}, and {base.fingerprint[:16]} is here",
            "run `molar finetune` again, or install what it was made with",
        )
    info = replace(
        base,
        name=settings.model,
        family=FAMILY,
        revision=checkpoint.revision,
        fingerprint=fingerprint.of_json([FAMILY, ADAPTER, checkpoint.digest, base.fingerprint]),
        settings={"beneath": base.name, **base.settings},
    )
    return EncoderPlan(info, lambda: FusedEncoder(info, under.load(), _head(checkpoint, head)))


def layers(settings: EmbedSettings) -> tuple[EmbedSettings, FusionHead]:
    """The settings of the encoder beneath a fine-tuned one, and the head; SettingsError where the folder holds none."""
    checkpoint = locate(settings)
    beneath, head, _ = _read(settings, checkpoint)
    return beneath, _head(checkpoint, head)


def _head(checkpoint: Checkpoint, described: Mapping[str, Any]) -> FusionHead:
    try:
        return FusionHead.of(described, load_file(checkpoint.complete() / WEIGHTS))
    except KeyError as error:
        raise SettingsError(f"{checkpoint.folder / WEIGHTS} lacks {error}", "run `molar finetune` again") from error


def _read(settings: EmbedSettings, checkpoint: Checkpoint) -> tuple[EmbedSettings, Mapping[str, Any], str]:
    """Settings of the encoder beneath, the head's account, and the fingerprint of what was tuned."""
    try:
        tuned = checkpoint.config["molar"]
        own = {key: value for key, value in tuned["embed"].items() if key in _BENEATH}
        beneath = settings.model_copy(update={"dtype": "auto", **own})
        return beneath, tuned["head"], tuned["fingerprint"]
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{checkpoint.folder / CONFIG} lacks {error}", "run `molar finetune` again") from error


def read_account(folder: Path) -> Mapping[str, Any]:
    """How the head in a folder was made, as it was given to :func:`save`; empty where there is no whole one."""
    if not (folder / WEIGHTS).is_file():
        return {}
    try:
        account = json.loads((folder / CONFIG).read_text("utf-8"))["molar"]["account"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return account if isinstance(account, dict) else {}


class FusedEncoder:
    """Another encoder, which keeps words and photo apart, and a head that moves its vectors."""

    def __init__(self, info: EncoderInfo, beneath: Encoder, head: FusionHead) -> None:
        self.info = info
        self.dim = head.dim
        self.blocks = head.output_blocks
        self._beneath = beneath
        self._head = head

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        return self._head(self._beneath.encode(items), [item.text for item in items])


def save(
    folder: Path, head: FusionHead, beneath: EmbedSettings, base: str, account: Mapping[str, Any], card: str
) -> None:
    """Write a fine-tuned encoder; one that the folder held before stays until this one is complete.

    ``base`` is the fingerprint of the encoder that the head moves, ``account`` says in JSON how it was made.
    A DataError says that the folder holds something else.
    """
    made = tuned_folder.partial(folder)
    embed = beneath.model_dump(mode="json", include=set(_BENEATH))
    molar = {"embed": embed, "fingerprint": base, "head": head.described(), "account": dict(account)}
    save_file(head.to_tensors(), made / WEIGHTS)
    (made / CARD).write_text(card, "utf-8")
    (made / CONFIG).write_text(json.dumps({"model_type": FUSED, "molar": molar}, indent=1), "utf-8")
    tuned_folder.replace(folder, made)
