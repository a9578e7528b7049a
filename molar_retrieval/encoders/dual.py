"""CLIP and its kin: one vector for the text, one for the image, both kept.

Texts are cut by the tokenizer, which keeps the end-of-text token that these models pool at. SigLIP was trained on
texts padded to their full length and attends to the padding, so its texts always are; with padding to the longest
of a batch its vectors would depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from molar_retrieval.encoders import runtime
from molar_retrieval.encoders.base import EncoderInfo, EncoderInput, EncoderPlan, VectorBlock, refuse
from molar_retrieval.encoders.checkpoint import Checkpoint, main_folder
from molar_retrieval.encoders.fusion import Rows, fuse, unit
from molar_retrieval.encoders.guard import encode_rows
from molar_retrieval.encoders.photos import within_aspect
from molar_retrieval.encoders.text import TextPreparation, special_tokens
from molar_retrieval.workspace.settings import EmbedSettings

ADAPTER = 1
WEIGHTS = (0.5, 0.5)
_PADDED = ("siglip", "siglip2")
_MAX_ASPECT = 20  # the shorter side is scaled to the input size, so a hairline would become gigabytes
_PROBE = Image.new("RGB", (64, 64), (128, 128, 128))


def plan(settings: EmbedSettings, checkpoint: Checkpoint) -> EncoderPlan:
    """Describe a model of two towers."""
    refuse(settings, "dim", why="its vectors cannot be cut")
    refuse(settings, "prompt", why="it takes no instruction")
    text, kind = checkpoint.config.get("text_config") or {}, str(checkpoint.config.get("model_type", ""))
    positions = int(text.get("max_position_embeddings") or (77 if "clip" in kind else 64))
    choices: dict[str, Any] = {
        "dtype": runtime.weights_dtype(settings, large=False),
        "max_text_tokens": min(settings.max_text_tokens, positions),
        "padding": "max_length" if kind in _PADDED else "longest",
        "weights": list(WEIGHTS),
        "trust_remote_code": settings.trusts_code and "auto_map" in checkpoint.config,
    }
    info = checkpoint.info(settings, "dual-encoder", ADAPTER, ("text", "image"), choices)
    return EncoderPlan(info, lambda: _load(settings, checkpoint, info))


class DualEncoder:
    """A loaded model of two towers as an encoder: the text's vector beside the image's."""

    def __init__(self, model: Any, processor: Any, info: EncoderInfo, *, batch_size: int) -> None:
        self.info = info
        self._model = model
        self._processor = processor
        self._batch_size = batch_size
        self._prepare = TextPreparation(special_tokens(processor.tokenizer))
        self._width = width = self._encode_texts(["probe"]).shape[1]
        self.dim = 2 * width
        self.blocks = (VectorBlock("content_text", 0, width), VectorBlock("content_image", width, 2 * width))

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        texts = [self._prepare(item.text) for item in items]
        images = [None if item.image is None else within_aspect(item.image, _MAX_ASPECT) for item in items]
        words, photos = self._rows(texts, self._encode_texts, "probe"), self._rows(images, self._encode_images, _PROBE)
        return fuse([(WEIGHTS[0], words), (WEIGHTS[1], photos)])

    def _rows(self, values: Sequence[Any], encode: Callable[[Sequence[Any]], Rows], probe: Any) -> Rows:
        return encode_rows(
            values, encode, dim=self._width, batch_size=self._batch_size, probe=probe, model=self.info.name
        )

    def _encode_texts(self, texts: Sequence[str]) -> Rows:
        inputs = self._processor(
            text=list(texts),
            padding=self.info.settings["padding"],
            truncation=True,
            max_length=self.info.settings["max_text_tokens"],
            return_tensors="pt",
        )
        return self._features(self._model.get_text_features, inputs)

    def _encode_images(self, images: Sequence[Image.Image]) -> Rows:
        return self._features(self._model.get_image_features, self._processor(images=list(images), return_tensors="pt"))

    def _features(self, tower: Callable[..., Any], inputs: Any) -> Rows:
        import torch

        with torch.inference_mode(), runtime.memory_errors():
            inputs = inputs.to(self._model.device)
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
            output = tower(**inputs)
            # transformers 5 gives an object where 4 gave the tensor
            vectors = output if torch.is_tensor(output) else output.pooler_output
            return unit(vectors.float().cpu().numpy())


def _load(settings: EmbedSettings, checkpoint: Checkpoint, info: EncoderInfo) -> DualEncoder:
    folder = str(main_folder(checkpoint.complete(), checkpoint.modules))
    with runtime.loading(settings.model):
        from transformers import AutoModel, AutoProcessor

        shared: dict[str, Any] = {
            "local_files_only": settings.offline or not settings.trusts_code,
            "trust_remote_code": settings.trusts_code,
        }
        model = AutoModel.from_pretrained(folder, dtype=str(info.settings["dtype"]), weights_only=True, **shared)
        processors: Any = AutoProcessor
        processor = processors.from_pretrained(folder, **shared)
        model = model.to(runtime.device(settings)).eval()
    return DualEncoder(model, processor, info, batch_size=settings.batch_size)
