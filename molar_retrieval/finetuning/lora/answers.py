"""Generation: an input is followed by the words that the model ought to write, and only these count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

IGNORED = -100
_HEAD = "lm_head.weight"


def with_answers(
    features: Mapping[str, Any], answers: Sequence[Sequence[int]], pad: int
) -> tuple[dict[str, Any], Tensor]:
    """Append an answer to each of b inputs, as sentence-transformers makes them, where the model would begin to write.

    The token ``pad`` fills rows up on the right. Beside the features are labels, shape (b, longest): the answers'
    tokens, -100 everywhere else.
    """
    mask = features["attention_mask"].bool()

    def joined(name: str, value: Tensor) -> Tensor:
        tails = [answer if name == "input_ids" else [int(name == "attention_mask")] * len(answer) for answer in answers]
        rows = [
            torch.cat([own[real], own.new_tensor(tail)]) for own, real, tail in zip(value, mask, tails, strict=True)
        ]
        return pad_sequence(rows, batch_first=True, padding_value=pad if name == "input_ids" else 0)

    made = {
        name: joined(name, value) if isinstance(value, Tensor) and value.shape == mask.shape else value
        for name, value in features.items()
    }
    own = zip(mask.sum(1).tolist(), answers, strict=True)
    labels = [made["input_ids"].new_tensor([IGNORED] * length + list(answer)) for length, answer in own]
    return made, pad_sequence(labels, batch_first=True, padding_value=IGNORED)


def surprise(hidden: Tensor, labels: Tensor, head: Tensor) -> Tensor:
    """How little the model expected the answers: the sum of -log p over their tokens.

    Only places before a token that counts meet the head, whose 150,000 rows would else dominate memory. Shapes are
    (b, length, d), (b, length) and (vocabulary, d).
    """
    counts = labels[:, 1:] != IGNORED
    logits = F.linear(hidden[:, :-1][counts].to(head.dtype), head)
    return F.cross_entropy(logits.float(), labels[:, 1:][counts], reduction="sum")


def language_head(model: Any, folder: Path) -> Tensor | None:
    """From hidden states to tokens, shape (vocabulary, d), which sentence-transformers leaves out; None: there is none.

    The folder has the weights of the transformers model, which is without its head.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if name := next((name for name in file.keys() if name.endswith(_HEAD)), None):  # noqa: SIM118 - no mapping
                found: Tensor = file.get_tensor(name)
                return found.to(model.device, model.dtype)
    config = model.config
    if not (config.tie_word_embeddings or getattr(config.get_text_config(), "tie_word_embeddings", False)):
        return None
    embeddings: nn.Module = model.get_input_embeddings()
    weight = embeddings.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def tokens(tokenizer: Any, answer: str) -> list[int]:
    """An answer as tokens, with the one that ends it."""
    found: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return [*found, tokenizer.eos_token_id]
