"""Text on its way into a tokenizer: no control tokens, no more tokens than agreed."""

import re
from collections.abc import Callable, Iterable
from typing import Any

Cut = Callable[[str], str]


class TextPreparation:
    """Makes a catalogue's text safe for a model.

    A product title may hold anything, and a tokenizer takes ``<|image_pad|>`` or ``[SEP]`` in it for its own
    control token: one such title would fail a whole batch or move the position that is pooled. Without a ``cut`` the
    length is left to the tokenizer.
    """

    def __init__(self, special: Iterable[str], cut: Cut | None = None) -> None:
        longest_first = sorted({token for token in special if token.strip()}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._cut = cut

    def __call__(self, text: str | None) -> str | None:
        """The text as the model may see it; None where nothing is left."""
        if text is None:
            return None
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates stop a tokenizer
        if self._special is not None:
            text = self._special.sub(" ", text)
        text = text.strip()
        if text and self._cut is not None:
            text = self._cut(text).strip()
        return text or None


def special_tokens(tokenizer: Any) -> set[str]:
    """All control tokens of a transformers tokenizer."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {*tokenizer.all_special_tokens, *(str(token.content) for token in added if token.special)}


def token_cut(tokenizer: Any, limit: int) -> Cut:
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


def counted_cut(count: Callable[[str], int], limit: int) -> Cut:
    """Cuts a text to the longest beginning with at most ``limit`` tokens, by bisection."""

    def cut(text: str) -> str:
        if count(text) <= limit:
            return text
        low, high = 0, len(text)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(text[:middle]) <= limit else (low, middle)
        return text[:low]

    return cut
