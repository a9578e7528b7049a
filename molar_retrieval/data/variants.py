"""Products with variants: an items file with a row a variant, read as a row a product, and which variant is whose.

Shops export a product as several rows, one for each size or colour, and sell by the id of the variant. What is
recommended is the product: rows that follow each other with one product id, or a blank one, are one item. What the log,
queries and events say of a variant, they say of its product (:class:`ItemIds`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.availability import ACTIVE, AVAILABLE_FROM, understood
from molar_retrieval.data.readers import Kinds, TableReader
from molar_retrieval.data.rows import Mask, Rejects, RowBatch
from molar_retrieval.data.values import STRING_LIST, is_list, is_string, split_lists
from molar_retrieval.errors import DataError, shown
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import fingerprint

FILE_NAME = "variants.parquet"
VARIANT_ID = "variant_id"
COLUMN = "variants"
TWICE = "variant of two items"
_MOST = 10_000  # rows of a product

Slots = npt.NDArray[np.int64]


class ItemIds(IdMap):
    """Ids of items by row, by which items are looked up; the id of a variant leads to its item.

    Args:
        items: The ids of the items.
        variants: The ids of variants, none of them that of an item.
        of: The row of the item of each variant, shape (n,).
    """

    def __init__(
        self, items: IdMap, variants: Sequence[str] | pa.Array = (), of: Sequence[int] | npt.NDArray[np.integer] = ()
    ) -> None:
        self._ids, self._items = items.array, items
        self._variants, self._of = IdMap(variants), np.asarray(of, np.int32)

    @classmethod
    def open(cls, items: IdMap, path: Path) -> "ItemIds":
        """Items with the variants of a file; without it, there are none."""
        if not path.exists():
            return cls(items)
        table = pq.read_table(path, use_threads=False)
        return cls(items, table[VARIANT_ID].combine_chunks(), items.rows(table[ITEM_ID]))

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """The row of each id, of an item or of a variant of it; -1 for an unknown or missing one."""
        rows = self._items.rows(ids)
        if not len(self._variants) or (rows >= 0).all():
            return rows
        found = self._variants.rows(ids)
        of_variant = (rows < 0) & (found >= 0)
        rows = rows.copy()
        rows[of_variant] = self._of[found[of_variant]]
        return rows


def of_items(ids: pa.Array, items: IdMap) -> pa.Array:
    """The ids with each variant's replaced by that of its item."""
    rows = items.rows(ids)
    return pc.coalesce(items.array.take(pa.array(rows, mask=rows < 0)).cast(ids.type), ids)


class VariantFile:
    """Which item each variant is of, as a file has it."""

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path, use_threads=False)
        self._variants, self._items = IdMap(table[VARIANT_ID]), table[ITEM_ID].combine_chunks()

    def items(self, ids: Sequence[str]) -> list[str | None]:
        """The item of each variant; None for what is no variant."""
        rows = self._variants.rows(ids)
        found: list[str | None] = self._items.take(pa.array(rows, mask=rows < 0)).to_pylist()
        return found


class VariantReader(TableReader):
    """Rows of variants as rows of products, each with the number of its first row; or filled down.

    A column has its first value that is not blank; ``lists``, and lists of the file, have the values of all rows,
    ``stock`` their sum, ``active`` whether any is, ``available_from`` the earliest. The column of variants becomes a
    list of their ids.

    With ``fill`` each variant is an item, and columns that only the first row of a product has are filled down. Rows
    without a variant, as of further photos, are left out.

    Args:
        source: The file.
        product: The column of the products' ids.
        variant: The column of the variants' ids.
        lists: Columns that hold several values in one string, with the ``separator`` between them.
        separator: See ``lists``.
        availability: The columns of the three roles that say from when an item may be shown.
        fill: See above.
    """

    def __init__(
        self,
        source: TableReader,
        product: str,
        variant: str,
        *,
        lists: Collection[str] = (),
        separator: str = "|",
        availability: Mapping[str, str] | None = None,
        fill: bool = False,
    ) -> None:
        super().__init__(source.path)
        self.form, self.untyped, self.total, self.decimal = source.form, source.untyped, source.total, source.decimal
        self.ambiguous_columns = source.ambiguous_columns
        self._source, self._product, self._variant = source, product, variant
        self._lists, self._separator = frozenset(lists), separator
        self._roles = {column: role for role, column in (availability or {}).items()}
        if not fill:
            self.variants = COLUMN
            while self.variants in source.names:
                self.variants += "_"

    @property
    def names(self) -> list[str]:
        """The columns of a product, or of the file."""
        if self.variants is None:
            return self._source.names
        return [*(name for name in self._source.names if name != self._variant), self.variants]

    @property
    def schema(self) -> pa.Schema:
        """The types of these columns."""
        if self.variants is None:
            return self._source.schema
        kinds = {field.name: field.type for field in self._source.schema} | {self.variants: STRING_LIST}
        kinds |= {name: STRING_LIST for name in self._lists & kinds.keys() if not is_list(kinds[name])}
        return pa.schema([(name, kinds[name]) for name in self.names])

    def _read(
        self, kinds: Kinds, size: int, rejects: Rejects | None, as_strings: Collection[str]
    ) -> Iterator[RowBatch]:
        ids = {self._product, self._variant}
        columns = list(dict.fromkeys([*(name for name in kinds if name != self.variants), *sorted(ids)]))
        written = ids | (set(as_strings) & set(columns)) | (self._lists & set(columns) if self.untyped else set())
        for rows, starts in self._products(self._source.batches(columns, size, rejects, written)):
            if self.variants is None:
                yield self._filled(rows, starts, list(kinds))
            else:
                arrays = [self._column(rows.batch, name, kind, starts) for name, kind in kinds.items()]
                yield RowBatch(rows.numbers[starts], pa.RecordBatch.from_arrays(arrays, list(kinds)))

    def _products(self, read: Iterator[RowBatch]) -> Iterator[tuple[RowBatch, Slots]]:
        """Rows of whole products, with the place where each of them begins."""
        left: RowBatch | None = None
        for rows in read:
            if not len(rows):
                continue
            if left is not None:
                numbers = np.concatenate([left.numbers, rows.numbers])
                rows = RowBatch(numbers, pa.concat_batches([left.batch, rows.batch]))
            ids = rows.batch[self._product]
            places = np.maximum.accumulate(np.where(present_values(ids), np.arange(len(ids)), -1))
            filled = ids.take(pa.array(places, mask=places < 0)).dictionary_encode()
            starts = np.flatnonzero(np.diff(np.asarray(filled.indices.fill_null(-1)), prepend=-2))
            last = int(starts[-1])
            if len(rows) - last > _MOST:
                words = f"{self.path.name}, row {rows.numbers[last]}: more than {_MOST:,} rows are of one product"
                raise DataError(words, "name another column in catalog.toml: [items] item_id, or leave variant_id out")
            left = RowBatch(rows.numbers[last:], rows.batch.slice(last))
            if last:
                yield RowBatch(rows.numbers[:last], rows.batch.slice(0, last)), starts[:-1]
        if left is not None:
            yield left, np.zeros(1, np.int64)

    def _column(self, batch: pa.RecordBatch, name: str, kind: pa.DataType, starts: Slots) -> pa.Array:
        """The values of products."""
        array = batch[self._variant if name == self.variants else name]
        if name == self.variants:
            values = [[one] if one and one.strip() else [] for one in array.to_pylist()]
            return self._union(values, kind, starts)
        if name in self._lists or is_list(array.type):
            return self._union(split_lists(array, self._separator).to_pylist(), kind, starts)
        if len(starts) == len(array):
            return array
        if (role := self._roles.get(name)) is None:
            first = np.minimum.reduceat(np.where(present_values(array), np.arange(len(array)), len(array)), starts)
            return array.take(pa.array(first, mask=first == len(array)))
        values = array.to_pylist()
        whole = [_together(role, values[begin:end]) for begin, end in pairwise([*starts.tolist(), len(values)])]
        return pa.array([str(one) if is_string(kind) and one is not None else one for one in whole], kind)

    def _union(self, values: Sequence[Sequence[Any] | None], kind: pa.DataType, starts: Slots) -> pa.Array:
        parts = (values[begin:end] for begin, end in pairwise([*starts.tolist(), len(values)]))
        union = [list(dict.fromkeys(one for own in part for one in own or ())) or None for part in parts]
        if is_list(kind):
            return pa.array(union, kind)
        return pa.array([None if own is None else self._separator.join(map(str, own)) for own in union], kind)

    def _filled(self, rows: RowBatch, starts: Slots, names: list[str]) -> RowBatch:
        """The rows of variants, with values that only the first row of a product has in all of its rows."""
        places, owner = np.arange(len(rows)), np.repeat(starts, np.diff(np.append(starts, len(rows))))
        columns = {}
        for name in {self._product, *names} - {self._variant}:
            there = present_values(rows.batch[name]).astype(np.int64)
            alone = np.zeros(len(rows), bool)
            alone[starts] = (there[starts] > 0) & (np.add.reduceat(there, starts) == 1)
            taken = owner if name == self._product else np.where(alone[owner], owner, places)
            columns[name] = rows.batch[name].take(pa.array(taken))
        kept = present_values(rows.batch[self._variant])
        kept[starts] |= ~np.logical_or.reduceat(kept, starts)  # so that a product without any variant is rejected
        filled = rows.with_columns(columns).where(kept)
        return RowBatch(filled.numbers, filled.batch.select(names))


def present_values(array: pa.Array) -> Mask:
    """Which values are there and not blank."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_string(array.type):
        return np.array(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(array), ""), False))
    return np.array(pc.is_valid(array))


def _together(role: str, values: Sequence[Any]) -> Any:
    """The availability of a product by that of its variants."""
    values = [value for value in values if value is not None and value != ""]
    if len(values) < 2:
        return values[0] if values else None
    if role == AVAILABLE_FROM:
        moments = {value: understood(role, value) for value in values} if isinstance(values[0], str) else {}
        return min(values, key=lambda value: moments.get(value) or value)
    told = [understood(role, value) for value in values]
    if role == ACTIVE or isinstance(values[0], bool):
        return next((value for value, own in zip(values, told, strict=True) if own), values[0])
    known = [max(own, 0) for own in told if own is not None]  # what one lacks is not taken from the others
    total = sum(known)
    return (int(total) if total == int(total) else total) if known else values[0]


def write_variants(folder: Path, items_file: Path, column: str, rejects: Rejects, file: str) -> dict[str, Any]:
    """Write which variant is of which item, by a column of written items, and tell the facts.

    A variant that two items have is rejected for the second one; a DataError names one that is another item as well.
    """
    table = pq.read_table(items_file, columns=[ITEM_ID, column], use_threads=False)
    items, item_of = IdMap(table[ITEM_ID]), dict[str, str]()
    for item_id, variants in zip(table[ITEM_ID].to_pylist(), table[column].to_pylist(), strict=True):
        for variant in variants or ():
            if item_of.setdefault(variant, item_id) != item_id:
                rejects.add(file, 0, item_id, TWICE, shown(variant))
    count = len(item_of)
    item_of = {variant: item_id for variant, item_id in item_of.items() if variant != item_id}
    own = pa.array(list(item_of), pa.string())
    if (both := np.flatnonzero(items.rows(own) >= 0)).size:
        variant = own[int(both[0])].as_py()
        words = f"{file}: {shown(variant)} is an item, and a variant of the item {shown(item_of[variant])}"
        raise DataError(words, "give products and variants ids of their own")
    written = pa.table({VARIANT_ID: own, ITEM_ID: pa.array(list(item_of.values()), pa.string())})
    pq.write_table(written, folder / FILE_NAME, compression="zstd")
    return {"variants": count, "variant_ids": fingerprint.of_json(list(item_of.items()))}
