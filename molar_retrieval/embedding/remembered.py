"""Which encoder a workspace's vectors are made by, and stay made by until another one is asked for by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molar_retrieval.embedding.contents import KIND
from molar_retrieval.embedding.external import FAMILY as EXTERNAL
from molar_retrieval.encoders import fused, registry, tuned_folder
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST
from molar_retrieval.workspace.settings import EmbedSettings, validated

_SHAPING = ("revision", "dim", "dtype", "photos", "prompt", "max_text_tokens", "image_pixels")
"""What of the settings shapes vectors, beside the model; each holds for one model."""
SHAPING = ("model", *_SHAPING)
"""What of the settings shapes vectors."""


def remembered(settings: EmbedSettings, workspace: Workspace) -> EmbedSettings:
    """The settings; what they leave open of the encoder is as it was when the live vectors were made.

    A model that is named stays; where it is another one, nothing of the former encoder's settings holds.
    """
    said, kept = settings.model_fields_set, encoder_kept(workspace)
    settings = _with_whole_path(settings)
    if "model" in said and settings.model != kept.get("model"):
        return settings
    own = {key: kept[key] for key in SHAPING if key in kept and key not in said}
    return settings.model_copy(
        update=validated(EmbedSettings, own, "the vectors' manifest").model_dump(include=set(own))
    )


def encoder_kept(workspace: Workspace) -> dict[str, Any]:
    """Settings of the encoder that made the live vectors; empty where there are none, or a file brought them.

    A StaleArtefactError says that the live version is damaged.
    """
    folder = workspace[KIND].current
    if folder is None or not (folder / MANIFEST).exists():
        return {}  # its reader says so
    made = Manifest.read(folder).settings
    return {} if made["encoder"].get("family") == EXTERNAL else of_folder(made.get("embed", {}), workspace.root)


def untuned(settings: EmbedSettings) -> EmbedSettings:
    """The settings of the encoder that a fine-tuned one was made from; of another encoder, its own."""
    folder = Path(settings.model)
    if settings.model in registry.NAMED or not folder.is_dir():
        return settings
    if fused.read_account(folder):
        return fused.layers(settings)[0]
    if (base := tuned_folder.read_account(folder).get("encoder")) is not None:
        return settings.model_copy(update=dict.fromkeys(_SHAPING[:2]) | {"model": base})
    return settings


def of_folder(embed: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Settings of an encoder as a manifest keeps them; a folder that moved with the workspace is named where it is."""
    model = embed.get("model")
    if model is None or not Path(model).is_absolute() or Path(model).is_dir():
        return dict(embed)
    parts = Path(model).parts
    ends = (Path(*parts[n:]) for n in range(1, len(parts)))
    found = (place / end for end in ends for place in (root, root.parent))
    return {**embed, "model": next((str(one) for one in found if one.is_dir()), model)}


def _with_whole_path(settings: EmbedSettings) -> EmbedSettings:
    """A folder is named from the root, so that it is found wherever the next command runs."""
    folder = Path(settings.model).expanduser()
    if settings.model in registry.NAMED or folder.is_absolute() or not folder.is_dir():
        return settings
    return settings.model_copy(update={"model": str(folder.absolute())})
