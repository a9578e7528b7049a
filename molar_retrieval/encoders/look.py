"""Which dimensions of a content vector tell one photo from another."""

from collections.abc import Mapping, Sequence
from typing import Any

from molar_retrieval.columns import LOOK
from molar_retrieval.encoders.base import Block
from molar_retrieval.encoders.imagenet import FEATURES

_COMPOSITE = ("builtin", "builtin-multilingual")


def look(encoder: Mapping[str, Any], blocks: Sequence[Block]) -> Block | None:
    """The block by which a photo is searched for, or None where the encoder sees none.

    The built-in encoders describe a photo twice; what it means is the same for all dresses, so only its looks count.

    Args:
        encoder: What it said about itself, as in a manifest.
        blocks: Of its vectors.
    """
    if "image" not in encoder.get("modalities", ()):
        return None
    seen = [block for block in blocks if block.name in ("content_image", "content")]
    if not seen:
        return None
    start = seen[-1].stop - FEATURES if encoder.get("family") in _COMPOSITE else seen[-1].start
    return Block(LOOK, start, seen[-1].stop)
