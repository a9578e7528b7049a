"""A text model and a photo model in one vector: text | meaning of the photo | features of the photo."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from molar_retrieval.columns import IMAGE_FEATURES
from molar_retrieval.encoders.base import EncoderInfo, EncoderInput, VectorBlock
from molar_retrieval.encoders.fusion import Rows, fuse
from molar_retrieval.encoders.guard import encode_rows
from molar_retrieval.encoders.imagenet import FEATURES, SIDE, PhotoEncoder
from molar_retrieval.encoders.text import TextPreparation

WEIGHTS = (0.6, 0.25, 0.15)
"""Of text, meaning and looks. A guess that gives a photo four tenths; what is trained later weighs anew."""

FAMILY = "composite"
"""Of any text model with these photos beside it."""
_FAMILIES = ("builtin", "builtin-multilingual", FAMILY)
_PROBE = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))


class TextModel(Protocol):
    """What the composite needs of a text model."""

    @property
    def width(self) -> int:
        """Length of its vectors."""

    @property
    def prepare(self) -> TextPreparation:
        """What happens to a text first."""

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""


class CompositeEncoder:
    """Texts by one model, photos by another, which is loaded when the first photo comes.

    ``batch_size`` texts go in one forward pass; photos have a batch size of their own.
    """

    def __init__(
        self, info: EncoderInfo, text: TextModel, photos: Callable[[], PhotoEncoder], *, batch_size: int
    ) -> None:
        self.info = info
        self.dim = 2 * text.width + FEATURES
        self.blocks = (VectorBlock("content_text", 0, text.width), VectorBlock("content_image", text.width, self.dim))
        self._text = text
        self._load_photos = photos
        self._photos: PhotoEncoder | None = None
        self._batch_size = batch_size

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        width = self._text.width
        texts = [self._text.prepare(item.text) for item in items]
        words = encode_rows(
            texts, self._text.encode, dim=width, batch_size=self._batch_size, probe="probe", model=self.info.name
        )
        image = self._encode_photos([item.image for item in items])
        return fuse([(WEIGHTS[0], words), (WEIGHTS[1], image[:, :width]), (WEIGHTS[2], image[:, width:])])

    def _encode_photos(self, images: Sequence[Image.Image | None]) -> Rows:
        dim = self._text.width + FEATURES
        if all(image is None for image in images):
            return np.zeros((len(images), dim), np.float32)
        photos = self._photos = self._photos or self._load_photos()

        def both(values: Sequence[Image.Image]) -> Rows:
            return np.concatenate(photos.encode(values), axis=1)

        return encode_rows(images, both, dim=dim, batch_size=photos.batch_size, probe=_PROBE, model=self.info.name)


def image_block(encoder: Mapping[str, Any], blocks: Sequence[VectorBlock]) -> VectorBlock | None:
    """The dimensions by which a photo is searched for, or None where the encoder sees none.

    The built-in encoders describe a photo twice; what it means is the same for all dresses, so only its features count.
    """
    if "image" not in encoder.get("modalities", ()):
        return None
    seen = [block for block in blocks if block.name in ("content_image", "content")]
    if not seen:
        return None
    start = seen[-1].stop - FEATURES if encoder.get("family") in _FAMILIES else seen[-1].start
    return VectorBlock(IMAGE_FEATURES, start, seen[-1].stop)
