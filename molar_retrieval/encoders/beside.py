"""Photos beside a model that only reads: its words, and the built-in encoder's photos, in parts of their own."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from molar_retrieval.encoders import imagenet, packages, runtime
from molar_retrieval.encoders.base import Encoder, EncoderInput, EncoderPlan, refuse
from molar_retrieval.encoders.composite import FAMILY, WEIGHTS, CompositeEncoder
from molar_retrieval.encoders.fusion import Rows
from molar_retrieval.encoders.text import TextPreparation
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

ADAPTER = 1


def plan(settings: EmbedSettings, reading: EncoderPlan) -> EncoderPlan:
    """Describe both; a SettingsError if the model sees photos itself."""
    words = reading.info
    if "image" in words.modalities:
        refuse(settings, "photos", why="it sees photos itself")
    choices = {"photos": settings.photos, "image_side": imagenet.SIDE, "weights": list(WEIGHTS)}
    weights = packages.digest(imagenet.DISTRIBUTION, imagenet.weights_file())
    info = replace(
        words,
        family=FAMILY,
        revision=f"{words.revision}, {imagenet.DISTRIBUTION} {packages.version(imagenet.DISTRIBUTION)}",
        licence=f"{words.licence} (text), Apache-2.0 (images)",
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([FAMILY, ADAPTER, words.fingerprint, weights, choices]),
        settings={**words.settings, **choices},
    )

    def loaded() -> CompositeEncoder:
        text = _Words(reading.load())

        def names() -> Rows:
            return text.encode(imagenet.names())

        photos = partial(imagenet.PhotoEncoder, runtime.device(settings), names)
        return CompositeEncoder(info, text, photos, batch_size=settings.batch_size)

    return EncoderPlan(info, loaded)


class _Words:
    """An encoder as the text part; see :class:`molar_retrieval.encoders.composite.TextModel`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.width = encoder.dim
        self.prepare = TextPreparation(())  # the encoder's own comes after it

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return self._encoder.encode([EncoderInput(text=text) for text in texts])
