"""The users file beside a log."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.sources import Rows, find_file, open_source
from molar_retrieval.catalog.spec import UserSettings
from molar_retrieval.interactions.columns import user_column
from molar_retrieval.interactions.read import Codes, present
from molar_retrieval.quality.bounded import Bounded
from molar_retrieval.quality.findings import Finding, Kind
from molar_retrieval.quality.log import kinds
from molar_retrieval.quality.log.read import BrokenRows

_BATCH = 65_536


def check_users_file(folder: Path, settings: UserSettings, in_log: list[str], found: Bounded) -> None:
    """Report users of the log that the users file lacks, and ids that it has twice or not at all.

    Args:
        folder: The catalogue.
        settings: What ``catalog.toml`` says about the file.
        in_log: The user ids of the log.
        found: Takes the findings.

    Raises:
        DataError: If there is a users file that cannot be read.
    """
    path = find_file(folder, "users")
    if path is None:
        return
    source = open_source(path)
    column = user_column(settings, source)
    codes = Codes()
    for rows in source.batches([column], _BATCH, BrokenRows(found, kinds.BROKEN_ROW), [column]):
        ids = rows.batch[column]
        there = present(ids)

        def about(kind: Kind, words: str, rows: Rows = rows, ids: pa.Array = ids) -> Callable[[int], Finding]:
            return lambda i: Finding(
                kind, words, user_id=ids[i].as_py(), file=path.name, row=int(rows.numbers[i]), column=column
            )

        found.each(kinds.USER_WITHOUT_ID, np.flatnonzero(~there), about(kinds.USER_WITHOUT_ID, "no id"))
        kept = np.flatnonzero(there)
        before = len(codes.rows)
        encoded = codes.encode(ids.take(kept))
        new = np.zeros(len(encoded), bool)
        new[np.unique(encoded, return_index=True)[1]] = True
        twice = kept[~(new & (encoded >= before))]
        found.each(kinds.USER_TWICE, twice, about(kinds.USER_TWICE, "the same id as a row before"))
    missing = [row for row, user_id in enumerate(in_log) if user_id not in codes.rows]
    found.each(
        kinds.UNKNOWN_USER,
        missing,
        lambda row: Finding(kinds.UNKNOWN_USER, f"{path.name} does not have it", user_id=in_log[row]),
    )
