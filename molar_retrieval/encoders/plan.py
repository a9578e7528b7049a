"""What every family hands to the registry: an account of an encoder, and the way to load it."""

from collections.abc import Callable
from dataclasses import dataclass

from molar_retrieval.config import EmbedSettings
from molar_retrieval.encoders.base import Encoder, EncoderInfo
from molar_retrieval.errors import SettingsError


@dataclass(frozen=True)
class EncoderPlan:
    """An encoder before it is loaded.

    Attributes:
        info: What it will say about itself.
        load: Loads the weights; the encoder's ``info`` is the plan's.
    """

    info: EncoderInfo
    load: Callable[[], Encoder]


def refuse(settings: EmbedSettings, *keys: str, why: str) -> None:
    """Refuse settings that this encoder would have to ignore.

    Raises:
        SettingsError: Naming the first of ``keys`` that is set.
    """
    for key in keys:
        if getattr(settings, key) is not None:
            raise SettingsError(
                f"embed.{key} = {getattr(settings, key)!r} means nothing for the model {settings.model!r}: {why}",
                f"leave {key} out, or name another model",
            )


def refuse_precision(settings: EmbedSettings) -> None:
    """Refuse any precision but float32.

    Raises:
        SettingsError: If another one is asked for.
    """
    if settings.dtype not in ("auto", "float32"):
        raise SettingsError(
            f"embed.dtype = {settings.dtype!r} is not for the model {settings.model!r}, which runs in float32",
            "leave dtype out",
        )
