"""Which columns of a log mean what: ``catalog.toml``, or well-known names."""

from collections.abc import Sequence
from dataclasses import dataclass

from molar_retrieval.catalog import names
from molar_retrieval.catalog.sources import Source, require_column
from molar_retrieval.catalog.spec import InteractionSettings, UserSettings
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


def log_columns(settings: InteractionSettings, source: Source, item_id: str) -> LogColumns:
    """Resolve the columns of a log.

    Args:
        settings: What ``catalog.toml`` says.
        source: The interactions file.
        item_id: What the items file calls its ids; the log may call them the same.

    Raises:
        DataError: If there is no column for users or items, or a named one is not there.
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
    return LogColumns(user, item, **found)


def user_column(settings: UserSettings, source: Source) -> str:
    """The column with the ids of a users file.

    Raises:
        DataError: If there is none.
    """
    if settings.user_id is not None:
        return require_column(settings.user_id, source.names, source.path.name, "users.user_id")
    name = names.well_known((*names.USER_ID, "id"), source.names)
    if name is None:
        raise _no_column("user_id", source.names, source, "users")
    return name


def _no_column(role: str, columns: Sequence[str], source: Source, section: str) -> DataError:
    return DataError(
        f"{source.path.name} has no {role} column; its columns are {', '.join(columns)}",
        f'call it {role}, or name it in catalog.toml: [{section}] {role} = "…"',
    )
