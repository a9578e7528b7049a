"""Which columns of a log mean what: ``catalog.toml``, or well-known names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from molar_retrieval.catalog import names
from molar_retrieval.catalog.sources import require_column
from molar_retrieval.catalog.spec import InteractionSettings, UserSettings
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import is_number, is_string, is_word
from molar_retrieval.errors import DataError


@dataclass(frozen=True)
class LogColumns:
    """Columns of the interactions file by meaning; None where the log has no such thing."""

    user_id: str
    item_id: str
    timestamp: str | None
    position: str | None
    weight: str | None
    event: str | None

    def all(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(name for name in vars(self).values() if name is not None))


_KNOWN = {
    "user_id": names.USER_ID,
    "item_id": names.LOG_ITEM_ID,
    "timestamp": names.TIMESTAMP,
    "position": names.POSITION,
    "weight": names.WEIGHT,
    "event": names.EVENT,
}


def log_columns(settings: InteractionSettings, source: TableSource, item_id: str) -> LogColumns:
    """Resolve the columns of a log.

    Args:
        settings: What ``catalog.toml`` says.
        source: The interactions file.
        item_id: What the items file calls its ids; the log may call them the same.

    Raises:
        DataError: If there is no column for users or items, a named one is not there, or one holds what it cannot.
    """
    found: dict[str, str | None] = {}
    columns = source.names
    for role, known in _KNOWN.items():
        name = getattr(settings, role)
        if name is not None:
            require_column(name, columns, source.path.name, f"interactions.{role}")
        found[role] = name or names.well_known((*known, item_id) if role == "item_id" else known, columns)
    user, item = found.pop("user_id"), found.pop("item_id")
    if user is None:
        raise _no_column("user_id", columns, source, "interactions")
    if item is None:
        raise _no_column("item_id", columns, source, "interactions")
    for role, name in {"user_id": user, "item_id": item, **found}.items():
        if name is not None:
            _check_type(role, name, source)
    return LogColumns(user, item, **found)


def _check_type(role: str, column: str, source: TableSource) -> None:
    """Refuse a column by its type before anything is read; text files hold words, which are looked at one by one."""
    if source.path.suffix == ".csv":
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


def user_column(settings: UserSettings, source: TableSource) -> str:
    """The column with the ids of a users file.

    Raises:
        DataError: If there is none.
    """
    if settings.user_id is not None:
        require_column(settings.user_id, source.names, source.path.name, "users.user_id")
    name = settings.user_id or names.well_known((*names.USER_ID, "id"), source.names)
    if name is None:
        raise _no_column("user_id", source.names, source, "users")
    _check_type("user_id", name, source)
    return name


def _no_column(role: str, columns: Sequence[str], source: TableSource, section: str) -> DataError:
    return DataError(
        f"{source.path.name} has no {role} column; its columns are {', '.join(columns)}",
        f'call it {role}, or name it in catalog.toml: [{section}] {role} = "…"',
    )
