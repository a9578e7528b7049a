"""A log as arrays in a file that several processes map into memory: who somebody is, it does not say."""

from collections.abc import Mapping

import numpy as np

from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.workspace.tensors import Array

_NAMES = ("offsets", "item", "timestamp", "weight", "strength")


def to_tensors(log: InteractionLog) -> dict[str, Array]:
    """Its arrays by name, but for when users are asked about."""
    return {name: values for name in _NAMES if (values := getattr(log, name)) is not None}


def of_tensors(tensors: Mapping[str, Array], n_items: int) -> InteractionLog:
    """The log of such arrays, users without ids and items by their rows; other arrays are not looked at."""
    own = {name: tensors[name] for name in _NAMES if name in tensors}
    own.setdefault("timestamp", np.broadcast_to(np.int64(0), own["item"].shape))
    return InteractionLog(users=IdMap([]), items=IdMap.numbered(n_items), **own)
