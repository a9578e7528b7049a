"""Sizes that follow from the data where the settings leave them open."""

import numpy as np

from molar_retrieval.config import AlignSettings
from molar_retrieval.interactions.log import InteractionLog

_LONGEST = 200
_LARGE = 500_000
_STEPS = 150


def sized(settings: AlignSettings, log: InteractionLog) -> AlignSettings:
    """The settings with every open size filled in.

    * ``history``: what holds 95 of 100 users whole, a multiple of 8, at most 200;
    * ``dim``: 128 from half a million training interactions, 64 below: a wide table learns little from few;
    * ``batch_tokens``: at least 150 steps an epoch, between 256 and 3,200 interactions each.
    """
    lengths = np.diff(log.offsets)
    lengths = lengths[lengths > 1]
    usual = float(np.quantile(lengths, 0.95)) if len(lengths) else 2
    filled = {
        "history": min(_LONGEST, max(8, -8 * int(-usual // 8))),
        "dim": 128 if len(log) >= _LARGE else 64,
        "batch_tokens": min(3200, max(256, len(log) // _STEPS)),
    }
    return settings.model_copy(update={k: v for k, v in filled.items() if getattr(settings, k) is None})
