"""The optional users file: for now its ids are checked, nothing in it is kept."""

from pathlib import Path

import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import find_file, open_source
from molar_retrieval.catalog.spec import UserSettings
from molar_retrieval.interactions.columns import user_column

_BATCH = 65_536


def check_users(folder: Path, settings: UserSettings, in_log: pa.Array, rejects: Rejects) -> dict[str, int] | None:
    """Compare the users file with the users of the log; attributes of users are not stored, as nothing needs them.

    Args:
        folder: The catalogue's folder.
        settings: What ``catalog.toml`` says about the file.
        in_log: The user ids of the log.
        rejects: Takes rows without an id and repeated ids.

    Returns:
        How many users the file has, how many of them the log does not have, and how many of the log's are not in
        the file; None where there is no users file.

    Raises:
        DataError: If the file cannot be read or has no id column.
    """
    path = find_file(folder, "users")
    if path is None:
        return None
    source = open_source(path)
    column = user_column(settings, source)
    seen: set[str] = set()
    for rows in source.batches([column], _BATCH, rejects, [column]):
        for number, user_id in zip(rows.numbers, rows.batch[column].to_pylist(), strict=True):
            if user_id is None or not user_id.strip():
                rejects.add(path.name, int(number), None, "missing user id")
            elif user_id in seen:
                rejects.add(path.name, int(number), None, "duplicate user id")
            else:
                seen.add(user_id)
    known = seen.intersection(in_log.to_pylist())
    return {
        "users": len(seen),
        "without_interactions": len(seen) - len(known),
        "missing": len(in_log) - len(known),
    }
