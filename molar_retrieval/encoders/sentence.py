"""Text models and multimodal language models through sentence-transformers: one vector per item.

Facts about the libraries that shape this file (sentence-transformers 6.2, transformers 5.24):

* A bare string is taken for an image where it looks like a URL or the path of one, and fetched; so every input is
  a dict.
* The order of the keys is the order in the prompt; the image comes first, and text is cut before it is rendered, so
  that nothing else is ever truncated and the last token is the template's.
* A Qwen-VL checkpoint without ``modules.json`` would get mean pooling; these models answer at the last token.
* Truncating dimensions comes after normalising there; here it is the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from molar_retrieval.encoders import runtime
from molar_retrieval.encoders.base import EncoderInfo, EncoderInput, EncoderPlan, VectorBlock
from molar_retrieval.encoders.checkpoint import Checkpoint
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.guard import encode_rows
from molar_retrieval.encoders.photos import bounded, within_aspect
from molar_retrieval.encoders.text import TextPreparation, special_tokens, token_cut
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import EmbedSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER = 1
INSTRUCTION = "Represent the user's input."
"""What a multimodal model without an instruction of its own is asked (the words of Qwen3-VL-Embedding)."""

_MAX_ASPECT = 200  # Qwen-VL refuses more
_PROBE = Image.new("RGB", (64, 64), (128, 128, 128))


def plan(settings: EmbedSettings, checkpoint: Checkpoint) -> EncoderPlan:
    """Describe a text model or a multimodal language model."""
    sees = checkpoint.kind == "multimodal"
    prompt = settings.prompt
    if prompt is None:
        prompt = checkpoint.prompt or (INSTRUCTION if sees else "")
    choices: dict[str, Any] = {
        "dim": settings.dim,
        "dtype": runtime.weights_dtype(settings, large=checkpoint.is_language_model),
        "max_text_tokens": settings.max_text_tokens,
        "pooling": "the model's own" if checkpoint.modules else "lasttoken" if sees else "the library's default",
        "prompt": prompt,
        "trust_remote_code": settings.trusts_code and "auto_map" in checkpoint.config,
    }
    if sees:
        choices["image_pixels"] = settings.image_pixels
    family = "multimodal-llm" if sees else "sentence-transformers"
    info = checkpoint.info(settings, family, ADAPTER, ("text", "image") if sees else ("text",), choices)
    return EncoderPlan(info, lambda: _load(settings, checkpoint, info))


class SentenceEncoder:
    """A loaded sentence-transformers model as an encoder that keeps the leading ``dim`` dimensions."""

    def __init__(
        self, model: SentenceTransformer, info: EncoderInfo, *, dim: int, prepare: TextPreparation, batch_size: int
    ) -> None:
        self.info = info
        self.dim = dim
        self.model = model
        self._prepare = prepare
        self._batch_size = batch_size
        self._sees = "image" in info.modalities
        self.blocks = (VectorBlock("content" if self._sees else "content_text", 0, dim),)

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        rows = np.zeros((len(items), self.dim), np.float32)
        entries = [self.entry(item) for item in items]
        for keys in dict.fromkeys(tuple(entry) for entry in entries if entry):
            alike = [row for row, entry in enumerate(entries) if tuple(entry) == keys]
            rows[alike] = encode_rows(
                [entries[row] for row in alike],
                self._forward,
                dim=self.dim,
                batch_size=self._batch_size,
                probe={key: _PROBE if key == "image" else "probe" for key in keys},
                model=self.info.name,
            )
        return rows

    def entry(self, item: EncoderInput) -> dict[str, Any]:
        """What the model gets to read and see of an item, ``image`` before ``text``; empty where that is nothing."""
        entry: dict[str, Any] = {}
        if self._sees and item.image is not None:
            pixels = int(self.info.settings["image_pixels"])
            entry["image"] = within_aspect(bounded(item.image, pixels), _MAX_ASPECT)
        if (text := self._prepare(item.text)) is not None:
            entry["text"] = text
        return entry

    def _forward(self, entries: Sequence[dict[str, Any]]) -> Rows:
        with runtime.memory_errors():
            vectors = self.model.encode(
                list(entries),
                prompt=str(self.info.settings["prompt"]),
                batch_size=len(entries),
                convert_to_tensor=True,
                show_progress_bar=False,
                truncate_dim=self.dim,
            )
        return unit(vectors.float().cpu().numpy())


def load_model(folder: Path, settings: EmbedSettings, dtype: str, *, last_token: bool) -> SentenceTransformer:
    """Load a folder through sentence-transformers; nothing is asked of a network unless its own code is trusted.

    With ``last_token`` a bare transformers model gets last-token pooling and normalising.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    device = runtime.device(settings)
    local = settings.offline or not settings.trusts_code
    shared: dict[str, Any] = {"local_files_only": local, "trust_remote_code": settings.trusts_code}
    weights = {"dtype": dtype, "weights_only": True}
    if not last_token:
        return SentenceTransformer(str(folder), device=device, model_kwargs=weights, **shared)
    transformer = Transformer(
        str(folder),
        model_kwargs={**weights, **shared},
        processor_kwargs=dict(shared),
        config_kwargs=dict(shared),
        processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )
    pooling = Pooling(transformer.get_embedding_dimension(), "lasttoken")
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device=device)


def _load(settings: EmbedSettings, checkpoint: Checkpoint, info: EncoderInfo) -> SentenceEncoder:
    folder = checkpoint.complete()
    sees = "image" in info.modalities
    with runtime.loading(settings.model):
        model = load_model(folder, settings, str(info.settings["dtype"]), last_token=sees and not checkpoint.modules)
        model.truncate_dim = None
        own = int(model.get_embedding_dimension() or 0)
    dim = settings.dim or own
    if own and dim > own:
        raise SettingsError(
            f"embed.dim = {settings.dim} is more than the {own} dimensions of {settings.model!r}", "name a smaller one"
        )
    if sees:
        _set_image_size(model, settings.image_pixels)
    prepare = text_preparation(model, settings.max_text_tokens, cut=sees)
    return SentenceEncoder(model, info, dim=dim, prepare=prepare, batch_size=settings.batch_size)


def text_preparation(model: SentenceTransformer, limit: int, *, cut: bool) -> TextPreparation:
    """How a model's texts are cleaned and shortened to ``limit`` tokens.

    ``cut`` shortens the text itself, as needed where a template follows it; else the model's maximal length is lowered.
    """
    tokenizer = model.tokenizer
    special = special_tokens(tokenizer) if hasattr(tokenizer, "all_special_tokens") else set()
    if cut:
        return TextPreparation(special, token_cut(tokenizer, limit))
    longest = model.max_seq_length
    if longest is not None:
        model.max_seq_length = min(int(longest), limit)
    return TextPreparation(special)


def _set_image_size(model: SentenceTransformer, pixels: int) -> None:
    """Bound the area of images, and let nothing be truncated behind the text's own cut.

    The Qwen-VL processors read ``size`` as the least and the largest number of pixels; others have fixed sizes.
    """
    module: Any = model[0]
    kwargs = {key: dict(value) for key, value in module.processing_kwargs.items()}
    kwargs.setdefault("text", {})["truncation"] = False
    images = getattr(module.processor, "image_processor", None)
    size = dict(getattr(images, "size", None) or {})
    if hasattr(images, "merge_size") and "longest_edge" in size:
        least = min(int(size.get("shortest_edge") or pixels), pixels)
        kwargs.setdefault("image", {})["size"] = {"shortest_edge": least, "longest_edge": pixels}
    module.processing_kwargs = kwargs
