"""Models through sentence-transformers: of text, multimodal language models, CLIP and its kin, and adapters of them.

Facts about the libraries that shape this file (sentence-transformers 6.2, transformers 5.24):

* A bare string is taken for an image where it looks like a URL or the path of one, and fetched; so every input is
  a dict.
* The order of the keys is the order in the prompt; the image comes first, and text is cut before it is rendered, so
  that nothing else is ever truncated and the last token is the template's.
* A Qwen-VL checkpoint without ``modules.json`` would get mean pooling; these models answer at the last token.
* Truncating dimensions comes after normalising there; here it is the other way round.
* SigLIP was trained on texts padded to their full length and attends to the padding, so its texts always are; with
  padding to the longest of a batch its vectors would depend on the batch.

Texts of CLIP and its kin are cut by the tokenizer, which keeps the end-of-text token that these models pool at. An
adapter stays beside the weights: merged into weights of bfloat16 it would be rounded to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from molar_retrieval.encoders.base import (
    Encoder,
    EncoderInfo,
    EncoderInput,
    EncoderPlan,
    Planner,
    Rows,
    TextPreparation,
    VectorBlock,
    counted_cut,
    encode_rows,
    fuse,
    loading,
    memory_errors,
    quiet,
    refuse,
    torch_device,
    unit,
    weights_dtype,
)
from molar_retrieval.encoders.checkpoint import Checkpoint, main_folder
from molar_retrieval.encoders.efficientnet import bounded, within_aspect
from molar_retrieval.encoders.head import read_account
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

VERSION = 1  # of what this file does to vectors, as in the fingerprints of all it runs
INSTRUCTION = "Represent the user's input."
"""What a multimodal model without an instruction of its own is asked (the words of Qwen3-VL-Embedding)."""
ADAPTABLE = ("multimodal-llm", "sentence-transformers")  # families of encoders that can bear an adapter
DUAL_WEIGHTS = (0.5, 0.5)

_MAX_ASPECT = 200  # Qwen-VL refuses more
_DUAL_ASPECT = 20  # the shorter side is scaled to the input size, so a hairline would become gigabytes
_PADDED = ("siglip", "siglip2")
_TOWERS = {
    part: {"method": f"get_{part}_features", "method_output_name": "pooler_output"} for part in ("text", "image")
}
_PROBE = Image.new("RGB", (64, 64), (128, 128, 128))


def plan(settings: EmbedSettings, checkpoint: Checkpoint) -> EncoderPlan:
    """Describe a text model or a multimodal language model."""
    sees = checkpoint.kind == "multimodal"
    prompt = settings.prompt
    if prompt is None:
        prompt = checkpoint.prompt or (INSTRUCTION if sees else "")
    choices: dict[str, Any] = {
        "dim": settings.dim,
        "dtype": weights_dtype(settings, large=checkpoint.is_language_model),
        "max_text_tokens": settings.max_text_tokens,
        "pooling": "the model's own" if checkpoint.modules else "lasttoken" if sees else "the library's default",
        "prompt": prompt,
        "trust_remote_code": settings.trusts_code and "auto_map" in checkpoint.config,
    }
    if sees:
        choices["image_pixels"] = settings.image_pixels
    family = "multimodal-llm" if sees else "sentence-transformers"
    info = checkpoint.info(settings, family, VERSION, ("text", "image") if sees else ("text",), choices)

    def load() -> SentenceEncoder:
        folder = checkpoint.complete()
        with loading(settings.model), quiet():
            if sees and not checkpoint.modules:
                model = _load_bare(folder, settings, info, chat_template={"add_generation_prompt": True})
            else:
                model = _load_whole(folder, settings, info)
            model.truncate_dim = None
            own = int(model.get_embedding_dimension() or 0)
        dim = settings.dim or own
        if own and dim > own:
            raise SettingsError(
                f"embed.dim = {settings.dim} is more than the {own} dimensions of {settings.model!r}",
                "name a smaller one",
            )
        if sees:
            _set_image_size(model, settings.image_pixels)
        elif model.max_seq_length is not None:
            model.max_seq_length = min(int(model.max_seq_length), settings.max_text_tokens)
        tokenizer = model.tokenizer
        special = special_tokens(tokenizer) if hasattr(tokenizer, "all_special_tokens") else set()
        # A template follows the text of a model that sees: there the text itself is cut.
        prepare = TextPreparation(special, token_cut(tokenizer, settings.max_text_tokens) if sees else None)
        return SentenceEncoder(model, info, dim=dim, prepare=prepare, batch_size=settings.batch_size)

    return EncoderPlan(info, load)


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
        return _encoded(self.model, entries, prompt=str(self.info.settings["prompt"]), truncate_dim=self.dim)


def plan_dual(settings: EmbedSettings, checkpoint: Checkpoint) -> EncoderPlan:
    """Describe a model of two towers, such as CLIP and SigLIP."""
    refuse(settings, "dim", why="its vectors cannot be cut")
    refuse(settings, "prompt", why="it takes no instruction")
    text, kind = checkpoint.config.get("text_config") or {}, str(checkpoint.config.get("model_type", ""))
    positions = int(text.get("max_position_embeddings") or (77 if "clip" in kind else 64))
    choices: dict[str, Any] = {
        "dtype": weights_dtype(settings, large=False),
        "max_text_tokens": min(settings.max_text_tokens, positions),
        "padding": "max_length" if kind in _PADDED else "longest",
        "weights": list(DUAL_WEIGHTS),
        "trust_remote_code": settings.trusts_code and "auto_map" in checkpoint.config,
    }
    info = checkpoint.info(settings, "dual-encoder", VERSION, ("text", "image"), choices)

    def load() -> DualEncoder:
        folder = main_folder(checkpoint.complete(), checkpoint.modules)
        cut = {"padding": choices["padding"], "truncation": True, "max_length": choices["max_text_tokens"]}
        with loading(settings.model), quiet():
            model = _load_bare(folder, settings, info, text=cut)
        return DualEncoder(model, info, batch_size=settings.batch_size)

    return EncoderPlan(info, load)


class DualEncoder:
    """A loaded model of two towers as an encoder: the text's vector beside the image's."""

    def __init__(self, model: SentenceTransformer, info: EncoderInfo, *, batch_size: int) -> None:
        self.info = info
        self.model = model
        self._batch_size = batch_size
        self._prepare = TextPreparation(special_tokens(model.tokenizer))
        self._width = width = _encoded(model, [{"text": "probe"}], prompt="").shape[1]
        self.dim = 2 * width
        self.blocks = (VectorBlock("content_text", 0, width), VectorBlock("content_image", width, 2 * width))

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        texts = [self._prepare(item.text) for item in items]
        images = [None if item.image is None else within_aspect(item.image, _DUAL_ASPECT) for item in items]
        words, photos = self._rows("text", texts, "probe"), self._rows("image", images, _PROBE)
        return fuse([(DUAL_WEIGHTS[0], words), (DUAL_WEIGHTS[1], photos)])

    def _rows(self, part: str, values: Sequence[Any], probe: Any) -> Rows:
        def encode(some: Sequence[Any]) -> Rows:
            return _encoded(self.model, [{part: value} for value in some], prompt="")

        return encode_rows(
            values, encode, dim=self._width, batch_size=self._batch_size, probe=probe, model=self.info.name
        )


def plan_adapter(settings: EmbedSettings, checkpoint: Checkpoint, plan_of: Planner) -> EncoderPlan:
    """Describe a language model with an adapter on top, in a folder of peft's format that names its base model.

    Raises:
        SettingsError: If the base model cannot bear it, or the settings do not fit.
        BackendError: If the base model is not here, or another one than was trained.
    """
    name, account = checkpoint.config.get("base_model_name_or_path"), read_account(checkpoint.folder)
    if not name:
        raise SettingsError(f"{checkpoint.folder} does not say which model it changes", "train it again")
    tuned = account.get("embed", {})
    own = {key: tuned[key] for key in ("prompt", "dim") if getattr(settings, key) is None and key in tuned}
    revision = None if Path(name).is_dir() else checkpoint.config.get("revision")
    under = plan_of(settings.model_copy(update={"model": name, "revision": revision, **own}))
    base = under.info
    if base.family not in ADAPTABLE:
        raise SettingsError(f"{checkpoint.folder} changes {name}, which is no language model", "train it again")
    if (wanted := account.get("revision", base.revision)) != base.revision:
        raise BackendError(
            f"{checkpoint.folder} changes {name} as of {wanted[:16]}, and {base.revision[:16]} is here",
            "run `molar finetune` again, or bring back what it was trained on",
        )
    info = replace(
        base,
        name=settings.model,
        revision=checkpoint.revision,
        fingerprint=fingerprint.of_json(["adapter", VERSION, checkpoint.digest, base.fingerprint]),
        settings={"base_model": base.name, **base.settings},
    )

    def load() -> Encoder:
        require_packages("peft")
        from peft import PeftModel

        encoder = cast(SentenceEncoder, under.load())
        transformer: Any = encoder.model[0]
        with loading(settings.model), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going to change
            PeftModel.from_pretrained(transformer.model, str(checkpoint.complete()))  # changes the layers in place
        encoder.info = info
        return encoder

    return EncoderPlan(info, load)


def require_packages(*names: str) -> None:
    """Raise a BackendError, which names the extra, where a package that adapters need is not installed."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise BackendError(
            f"an adapter of a language model needs {' and '.join(missing)}",
            "install it: `pip install 'molar-retrieval[finetune]'`",
        )


def _load_whole(folder: Path, settings: EmbedSettings, info: EncoderInfo) -> SentenceTransformer:
    """A folder as it is; nothing is asked of a network unless the model's own code is trusted."""
    from sentence_transformers import SentenceTransformer

    weights = {"dtype": str(info.settings["dtype"]), "weights_only": True}
    return SentenceTransformer(
        str(folder), device=torch_device(settings), model_kwargs=weights, **_permissions(settings)
    )


def _load_bare(folder: Path, settings: EmbedSettings, info: EncoderInfo, **processing: Any) -> SentenceTransformer:
    """A bare transformers model: of two towers, or with last-token pooling and normalising; no network, as above."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    allowed, device = _permissions(settings), torch_device(settings)
    dual = info.family == "dual-encoder"
    transformer = Transformer(
        str(folder),
        model_kwargs={"dtype": str(info.settings["dtype"]), "weights_only": True, **allowed},
        processor_kwargs=dict(allowed),
        config_kwargs=dict(allowed),
        processing_kwargs=processing,
        **({"modality_config": _TOWERS, "module_output_name": "sentence_embedding"} if dual else {}),
    )
    modules: list[Any] = [transformer]
    if not dual:
        modules += [Pooling(transformer.get_embedding_dimension(), "lasttoken"), Normalize()]
    return SentenceTransformer(modules=modules, device=device)


def _permissions(settings: EmbedSettings) -> dict[str, Any]:
    return {
        "local_files_only": settings.offline or not settings.trusts_code,
        "trust_remote_code": settings.trusts_code,
    }


def _encoded(model: SentenceTransformer, entries: Sequence[dict[str, Any]], **options: Any) -> Rows:
    """Unit rows of entries with the same keys, in one forward pass."""
    with memory_errors():
        vectors = model.encode(
            list(entries), batch_size=len(entries), convert_to_tensor=True, show_progress_bar=False, **options
        )
    return unit(vectors.float().cpu().numpy())


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


def special_tokens(tokenizer: Any) -> set[str]:
    """All control tokens of a transformers tokenizer."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {*tokenizer.all_special_tokens, *(str(token.content) for token in added if token.special)}


def token_cut(tokenizer: Any, limit: int) -> Callable[[str], str]:
    """Cuts a text where its first ``limit`` tokens end, so that whatever follows it in a prompt stays in place."""
    if not tokenizer.is_fast:
        return counted_cut(lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]), limit)

    def cut(text: str) -> str:
        # The limit is applied here and not by the tokenizer, whose own truncation warns and may have another side.
        offsets = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        ends = offsets["offset_mapping"]
        return text if len(ends) <= limit else text[: ends[limit - 1][1]]

    return cut
