"""What events say of people: attributes that rules choose by, laid over those of the users file, as they arrived.

Only what the shop wants to be kept (`[index] segments`) is read of them, and only values of the column's kind.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_retrieval.data.interaction_reader import user_column
from molar_retrieval.data.live_events import apply_attributes
from molar_retrieval.data.rows import with_new_ids
from molar_retrieval.data.schema import UserSettings, find_table, require_column
from molar_retrieval.data.values import as_payload, kind_of, payload_type
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, user_key
from molar_retrieval.privacy.suppression import NEVER, NOBODY, SuppressionList
from molar_retrieval.workspace import fingerprint

_BATCH = 65_536


@dataclass(frozen=True)
class Segments:
    """Attributes by people's keys (missing values are left out), the kind of each column, and a digest of the file."""

    kinds: Mapping[str, str]
    of: Mapping[str, Mapping[str, Any]]
    digest: str

    def changed(self, changes: Iterable[tuple[StoredName, str]]) -> "Segments":
        """The same with what events say of users laid over it, as they came, see :func:`apply_attributes`."""
        said: dict[str, list[str]] = {}
        for user, data in changes:
            said.setdefault(user_key(user), []).append(data)
        fresh = {key: apply_attributes(self.of.get(key, {}), own, self.kinds) for key, own in said.items()}
        digest = fingerprint.of_json([self.digest, fresh]) if fresh else self.digest
        return Segments(self.kinds, {**self.of, **fresh}, digest)


def read_segments(
    folder: Path,
    settings: UserSettings,
    columns: Sequence[str],
    names: Pseudonymiser,
    suppressed: SuppressionList = NOBODY,
) -> Segments:
    """Some columns of the users file, else a DataError; of an id that comes twice the first row counts.

    ``suppressed`` people are as if they were not there.
    """
    source = find_table(folder, "users")
    if source is None:
        raise DataError(f"{folder} has no users file", f"put users.parquet or .csv with {', '.join(columns)} there")
    file, column = source.path.name, user_column(settings, source)
    types: dict[str, pa.DataType] = {}
    for name in columns:
        require_column(name, source.names, file, "index.segments")
        stored = payload_type(source.schema.field(name).type)
        if stored is None:
            raise DataError(f"{file}: the column {name!r} holds no words, numbers or truths", "leave it out")
        types[name] = stored
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, None] = {}
    for every in source.batches([column, *columns], _BATCH, None, [column]):
        others = every.where(suppressed.users(every.batch[column]) == NEVER)
        rows = with_new_ids(others, column, seen, None, file).batch
        table = pa.table([as_payload(rows[name], kind) for name, kind in types.items()], list(types)).to_pylist()
        for user_id, attributes in zip(rows[column].to_pylist(), table, strict=True):
            found[user_id] = {name: value for name, value in attributes.items() if value is not None}
    kinds = {name: kind_of(stored) for name, stored in types.items()}
    of = {names.key(user_id): attributes for user_id, attributes in found.items()}
    return Segments(kinds, of, fingerprint.of_json([kinds, found]))
