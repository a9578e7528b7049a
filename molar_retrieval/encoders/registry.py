"""The table of encoders: what the name in the settings stands for.

An encoder is described without its libraries, so that a run with nothing to encode stays fast. To add one, write a
module with a function ``plan`` and enter it here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from molar_retrieval.encoders import builtin, gemma, head, sentence
from molar_retrieval.encoders.base import Encoder, EncoderInfo, EncoderPlan
from molar_retrieval.encoders.checkpoint import Checkpoint, Kind, locate
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.workspace.settings import EmbedSettings

NAMED = (builtin.NAME, builtin.MULTILINGUAL)  # encoders with a name of their own

CHECKPOINTS: Mapping[Kind, Callable[[EmbedSettings, Checkpoint], EncoderPlan]] = {
    "text": sentence.plan,
    "multimodal": sentence.plan,
    "dual": sentence.plan_dual,
    "fused": lambda settings, checkpoint: head.plan_fused(settings, checkpoint, plan),
    "adapter": lambda settings, checkpoint: sentence.plan_adapter(settings, checkpoint, plan),
}
"""Who runs a local folder or a hub model, by its kind."""


def describe(settings: EmbedSettings, cache: Path | None = None) -> EncoderInfo:
    """What the encoder is; imports neither torch nor transformers.

    A SettingsError says that the settings do not fit it, a BackendError that it is not here. The cache, a JSON file,
    remembers digests of the weights of local folders, so that they are read once.
    """
    return plan(settings, cache).info


def load(settings: EmbedSettings, cache: Path | None = None) -> Encoder:
    """Load the encoder; its ``info`` equals what :func:`describe` says. It may be a MemoryError as well."""
    return plan(settings, cache).load()


def plan(settings: EmbedSettings, cache: Path | None = None) -> EncoderPlan:
    """Both at once, for what may have to be loaded later; see :func:`describe` and :func:`load`."""
    if settings.photos == "builtin":
        return builtin.plan_beside(settings, plan(settings.model_copy(update={"photos": "own"}), cache))
    if settings.model in NAMED:
        return builtin.plan(settings)
    checkpoint = located(settings, cache)
    return CHECKPOINTS[checkpoint.kind](settings, checkpoint)


def located(settings: EmbedSettings, cache: Path | None = None) -> Checkpoint:
    """The files of a model that has no encoder of its own; see :func:`describe`."""
    if settings.model == gemma.NAME:
        return gemma.located(settings)
    plain = "/" not in settings.model and not Path(settings.model).expanduser().is_dir()
    if plain and (close := nearest(settings.model, (*NAMED, gemma.NAME), n=1)):
        raise SettingsError(
            f"there is neither an encoder nor a folder {settings.model!r}",
            f"did you mean {close[0]!r}? A hub model has a name of the form organisation/model",
        )
    return locate(settings, cache)
