"""Whether an encoder understands the language that a catalogue is written in."""

from collections.abc import Iterable

from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.languages import NAMES, common_language

MANY = "mul"
"""ISO 639 code for a model of many languages."""


def fits(info: EncoderInfo, texts: Iterable[str]) -> str | None:
    """Say so where the texts are not in a language that the encoder understands.

    Args:
        info: Of the encoder; one that does not say which languages it understands fits everything.
        texts: Of the catalogue; the first 2,000 are looked at.

    Returns:
        A message with what to do, or None where nothing speaks against the encoder.
    """
    if not info.languages or MANY in info.languages:
        return None
    found = common_language(texts)
    if found is None or found in info.languages:
        return None
    understood = ", ".join(info.languages)
    return (
        f"the catalogue looks {NAMES[found]}, and the encoder {info.name!r} understands {understood} only; take"
        " builtin-multilingual (pip install 'molar-retrieval[multilingual]') or a multilingual model"
    )
