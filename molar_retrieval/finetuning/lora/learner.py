"""A language model with an adapter: vectors as `molar embed` makes them, with gradients, and losses of answers."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molar_retrieval import rng
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.checkpoint import main_folder
from molar_retrieval.encoders.sentence import SentenceEncoder
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.finetuning.lora import answers as generation
from molar_retrieval.workspace.settings import EmbedSettings, LoraSettings

if TYPE_CHECKING:
    from peft import PeftModel

Entry = dict[str, Any]
"""An input as :meth:`SentenceEncoder.entry` makes it."""
Features = dict[str, Any]
"""Some inputs as sentence-transformers feeds them to a model."""


class Learner:
    """A sentence-transformers model whose adapter, and nothing else, is trained.

    The encoder, as `molar embed` runs it, and what peft adapted are the same transformers model. The head leads from
    hidden states to tokens, shape (vocabulary, d); without one it cannot write.
    """

    def __init__(self, encoder: SentenceEncoder, adapted: "PeftModel", head: Tensor | None) -> None:
        self.encoder, self.adapted, self.head = encoder, adapted, head
        self._model = encoder.model

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return torch.device(self._model.device)

    @property
    def sees(self) -> bool:
        """Whether it looks at photos."""
        return "image" in self.encoder.info.modalities

    def trained(self) -> dict[str, nn.Parameter]:
        """The adapter's weights by name."""
        return {name: p for name, p in self.adapted.named_parameters() if p.requires_grad}

    def training(self, on: bool) -> None:
        """Switch dropout and gradient checkpointing on or off."""
        self._model.train(on)

    def features(self, entries: Sequence[Entry]) -> Features:
        """Inputs of one kind (all with a photo, or none) as tensors, not yet on the device."""
        return dict(self._model.preprocess(list(entries), prompt=str(self.encoder.info.settings["prompt"])))

    def vectors(self, features: Features) -> Tensor:
        """Vectors of n inputs, shape (n, dim), float32, length 1."""
        found: Tensor = self._model(self._moved(features))["sentence_embedding"]
        return F.normalize(found[:, : self.encoder.dim].float(), dim=-1)

    def length(self, text: str) -> int:
        """How many tokens there are to write of a text."""
        return len(generation.tokens(self._model.tokenizer, text))

    def surprise(self, entries: Sequence[Entry], texts: Sequence[str]) -> Tensor:
        """How little the model expected the texts after inputs of one kind: the sum of -log p over their tokens."""
        assert self.head is not None
        tokenizer: Any = self._model.tokenizer
        words = [generation.tokens(tokenizer, text) for text in texts]
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        features, labels = generation.with_answers(self.features(entries), words, pad)
        transformer: Any = self._model[0]
        hidden = transformer(self._moved(features))[transformer.module_output_name]
        return generation.surprise(hidden, labels.to(self.device), self.head)

    def _moved(self, features: Features) -> Features:
        return {name: v.to(self.device) if isinstance(v, Tensor) else v for name, v in features.items()}

    def seed(self, *names: object) -> None:
        """Draw the next dropout from a stream of its own, so that it can be drawn again."""
        torch.manual_seed(rng.derive_seed(0, "dropout", *names))


def load(settings: EmbedSettings, lora: LoraSettings, seed: int, cache: Path | None = None) -> Learner:
    """Load an encoder and put an adapter on it that does nothing yet; for ``cache`` see :func:`registry.describe`.

    SettingsError if the precision is not fit for training, or the encoder is an adapter itself, BackendError if the
    model is not available, or its language model cannot be told from its vision tower.
    """
    checkpoint = registry.located(settings, cache)
    if checkpoint.kind == "adapter":
        raise SettingsError(f"{settings.model} is an adapter", "name a whole model, such as the merged one beside it")
    encoder = cast(SentenceEncoder, registry.load(settings, cache))
    if encoder.info.settings["dtype"] == "float16":
        raise SettingsError("embed.dtype = 'float16' is too coarse to train in", "use bfloat16, float32 or auto")
    transformer: Any = encoder.model[0]
    for parameter in encoder.model.parameters():
        parameter.requires_grad_(False)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=lora.dropout,
        target_modules=targets(transformer.model, settings.model, vision=lora.vision, layers=lora.layers),
        task_type="FEATURE_EXTRACTION",
    )
    torch.manual_seed(rng.derive_seed(seed, "adapter"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going to change
        adapted = cast("PeftModel", get_peft_model(transformer.model, config))
        if lora.gradient_checkpointing and transformer.model.supports_gradient_checkpointing:
            # It is about to be called activation_checkpointing_enable.
            transformer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    own: Any = adapted.peft_config["default"]
    folder = Path(settings.model).expanduser()
    own.base_model_name_or_path = str(folder.resolve()) if folder.is_dir() else settings.model
    own.revision = None if folder.is_dir() else encoder.info.revision
    head = None
    if lora.generate and checkpoint.is_language_model:
        head = generation.language_head(transformer.model, main_folder(checkpoint.complete(), checkpoint.modules))
    return Learner(encoder, adapted, head)


def targets(model: Any, name: str, *, vision: bool, layers: float = 1.0) -> str:
    """An expression for the names of the linear layers that get an adapter: those of the language model, or all.

    Of the language model's layers only the upper share of ``layers`` do, at least one. BackendError if the model does
    not say which part of it is the language model.
    """
    decoder = model if vision or not hasattr(model.config, "vision_config") else model.get_decoder()
    place = next(place for place, module in model.named_modules() if module is decoder)
    if not place and not vision and decoder is model and hasattr(model.config, "vision_config"):
        raise BackendError(
            f"the model {name!r} does not tell its language model from its vision tower",
            "set lora.vision = true to train both",
        )
    leaves = {n.rpartition(".")[2] for n, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    within = re.escape(place) + r"\." if place else ""
    return f"{_lower(model, layers)}{within}(.*\\.)?({'|'.join(sorted(map(re.escape, leaves)))})"


def _lower(model: Any, layers: float) -> str:
    """What the names of the layers below the upper share begin with, as an expression that forbids it."""
    text = model.get_decoder() if hasattr(model.config, "vision_config") else model
    count = int(model.config.get_text_config().num_hidden_layers)
    below = count - max(1, round(layers * count))
    if not below:
        return ""
    stacks = (module for module in text.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    stack = next(stacks)
    place = next(place for place, module in model.named_modules() if module is stack)
    return rf"(?!{re.escape(place)}\.({'|'.join(map(str, range(below)))})\.)"


def chunks(entries: Sequence[Entry], size: int) -> list[list[int]]:
    """Places of entries that go through the model together: of one kind and of similar length."""
    order = sorted(range(len(entries)), key=lambda n: (tuple(entries[n]), len(entries[n].get("text", ""))))
    found: list[list[int]] = []
    for place in order:
        if found and len(found[-1]) < size and tuple(entries[found[-1][0]]) == tuple(entries[place]):
            found[-1].append(place)
        else:
            found.append([place])
    return found


def frozen_vectors(learner: Learner, entries: Sequence[Entry], size: int) -> Tensor:
    """Vectors without gradients and without dropout, shape (n, dim), on the CPU."""
    learner.training(False)
    found = torch.zeros(len(entries), learner.encoder.dim)
    with torch.inference_mode():
        for places in chunks(entries, size):
            found[places] = learner.vectors(learner.features([entries[place] for place in places])).cpu()
    return found
