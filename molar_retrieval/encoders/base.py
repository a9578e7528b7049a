"""What every encoder is: items in, unit vectors out, and an honest account of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image


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


@runtime_checkable
class Encoder(Protocol):
    """Turns items into vectors."""

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def blocks(self) -> tuple[VectorBlock, ...]:
        """How the dimensions divide by source; together they cover the vector."""
        ...

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
        ...
