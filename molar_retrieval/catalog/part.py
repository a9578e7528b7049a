"""A part of a catalogue, chosen by a condition: a company may start with one category."""

from collections.abc import Mapping

import pyarrow as pa

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.expressions import matches
from molar_retrieval.filter_language import parse


class Part:
    """The items that fulfil a condition.

    Args:
        where: The condition, see :mod:`molar_retrieval.filter_language`.
        fields: Of the items, with their kinds.

    Attributes:
        others: How many items did not fulfil it so far.

    Raises:
        RequestError: If the condition is not understood.
    """

    def __init__(self, where: str, fields: Mapping[str, str]) -> None:
        self._condition = parse(where, {ITEM_ID: "keyword", **fields})
        self._names = [ITEM_ID, *fields]
        self.others = 0

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Those of a batch, in their order."""
        fulfilled = [matches(self._condition, item) for item in batch.select(self._names).to_pylist()]
        self.others += len(fulfilled) - sum(fulfilled)
        return batch.filter(pa.array(fulfilled, pa.bool_()))
