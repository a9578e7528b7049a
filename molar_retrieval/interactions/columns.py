"""Which columns of a log mean what: ``catalog.toml``, or well-known names."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from molar_retrieval.data import column_names
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import InteractionSettings, UserSettings, columns_by_role
from molar_retrieval.data.values import is_number, is_string, is_word
from molar_retrieval.errors import DataError


@dataclass(frozen=True)
class LogColumns:
    """Columns of the interactions file by meaning; None where the log has no such thing."""

    user_id: str
    item_id: str
    timestamp: str | None = None
    position: str | None = None
    weight: str | None = None
    event: str | None = None
    order_id: str | None = None
    status: str | None = None
    cancelled_at: str | None = None

    def all(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(name for name in vars(self).values() if name is not None))


_KNOWN = {
    "user_id": column_names.USER_ID,
    "item_id": column_names.LOG_ITEM_ID,
    "timestamp": column_names.TIMESTAMP,
    "position": column_names.POSITION,
    "weight": column_names.WEIGHT,
    "event": column_names.EVENT,
    "order_id": (),
    "status": (),
    "cancelled_at": (),
}


def log_columns(settings: InteractionSettings, source: TableReader, item_id: str) -> LogColumns:
    """Resolve the columns of a log, where ``item_id`` may name the items; a DataError if one is missing or unfit."""
    known = {**_KNOWN, "item_id": (*_KNOWN["item_id"], item_id)}
    found = columns_by_role(settings, known, source, "interactions", ["user_id", "item_id"])
    for role, name in found.items():
        _check_type(role, name, source)
    return LogColumns(**found)


def _check_type(role: str, column: str, source: TableReader) -> None:
    """Refuse a column by its type before anything is read; text files hold words, which are looked at one by one."""
    if source.untyped:
        return
    kind = source.schema.field(column).type
    fits, what = _TYPES.get(role, (is_word, "words or numbers, one a row"))
    if not fits(kind) and not pa.types.is_null(kind):
        words = f"{source.path.name}: the {role} column {column!r} holds {kind}"
        raise DataError(words, f'write {what}, or name another column in catalog.toml: [interactions] {role} = "…"')


def _is_numeric(kind: pa.DataType) -> bool:
    return is_number(kind) or is_string(kind)


def _is_moment(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_moment(kind.value_type)
    dated = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return dated or (_is_numeric(kind) and not pa.types.is_boolean(kind))


_TYPES: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "timestamp": (_is_moment, "seconds, ISO 8601 strings or timestamps"),
    "position": (_is_numeric, "numbers"),
    "weight": (_is_numeric, "numbers"),
}


def user_column(settings: UserSettings, source: TableReader) -> str:
    """The column with the ids of a users file; a DataError if there is none."""
    name = columns_by_role(settings, {"user_id": (*column_names.USER_ID, "id")}, source, "users", ["user_id"])[
        "user_id"
    ]
    _check_type("user_id", name, source)
    return name
