"""One odd item must not take its batch down, and a broken model must not pass for odd items."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from molar_retrieval.encoders.fusion import Rows
from molar_retrieval.errors import BackendError, MolarError

_log = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")


def encode_rows(
    items: Sequence[ItemT | None],
    encode: Callable[[Sequence[ItemT]], Rows],
    *,
    dim: int,
    batch_size: int,
    probe: ItemT,
    model: str,
) -> Rows:
    """Encode what there is of some items (None: zeros), batch by batch; see :func:`encode_guarded`."""
    rows = np.zeros((len(items), dim), np.float32)
    present = [(row, item) for row, item in enumerate(items) if item is not None]
    for start in range(0, len(present), batch_size):
        numbers, values = zip(*present[start : start + batch_size], strict=True)
        rows[list(numbers)] = encode_guarded(values, encode, dim=dim, probe=probe, model=model)
    return rows


def encode_guarded(
    items: Sequence[ItemT], encode: Callable[[Sequence[ItemT]], Rows], *, dim: int, probe: ItemT, model: str
) -> Rows:
    """Encode a batch; where that fails, item by item: one that cannot be encoded gets zeros, and a warning in the log.

    A MemoryError goes through; where even the probe, a harmless item, cannot be encoded, it is a BackendError.
    """
    try:
        rows = encode(items)
    except (MemoryError, MolarError):
        raise
    except Exception as error:
        return _one_by_one(items, encode, dim, probe, model, error)
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    if not finite.all():
        _log.warning("%s gave no finite vector for %d of %d items; they get none", model, (~finite).sum(), len(items))
        rows = np.where(finite[:, None], rows, np.float32(0))
    return rows


def _one_by_one(
    items: Sequence[ItemT],
    encode: Callable[[Sequence[ItemT]], Rows],
    dim: int,
    probe: ItemT,
    model: str,
    first: Exception,
) -> Rows:
    try:
        encode([probe])
    except MemoryError:
        raise
    except Exception as error:
        raise BackendError(
            f"the model {model!r} cannot encode: {type(error).__name__}: {error}",
            "try another model; --debug shows where it fails",
        ) from first
    rows = np.zeros((len(items), dim), np.float32)
    for row, item in enumerate(items):
        try:
            rows[row] = encode([item])[0]
        except MemoryError:
            raise
        except Exception as error:
            _log.warning("%s cannot encode %.200r; it gets no vector: %s", model, item, error)
    return rows
