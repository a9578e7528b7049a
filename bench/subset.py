"""A part of a Parquet catalogue as a catalogue of its own: fewer columns, or the core that papers evaluate on.

    python bench/subset.py CATALOGUE OUT [--without COLUMN ...] [--users 5 --items 3]

``--without`` leaves columns of the items out, such as counts that were made from the log. ``--users`` and ``--items``
leave out users and items with fewer interactions until none is left, which looks at all of time: results on a core
flatter, and compare with papers only. OUT must not exist; photos are copied.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def core(log: pa.Table, users: int, items: int) -> pa.Table:
    """The interactions among users with at least ``users`` and items with at least ``items`` of them."""
    while True:
        rest = _frequent(_frequent(log, "user_id", users), "item_id", items)
        if len(rest) == len(log):
            return log
        log = rest


def _frequent(log: pa.Table, column: str, least: int) -> pa.Table:
    counts = pc.value_counts(log[column])
    kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), least))
    return log.filter(pc.is_in(log[column], kept))


def write(catalogue: Path, out: Path, users: int = 0, items: int = 0, without: Sequence[str] = ()) -> None:
    """Write the part's tables and copy its photos.

    Raises:
        KeyError: If the items lack a column that is to be left out.
    """
    log = pq.read_table(catalogue / "interactions.parquet")
    tables = {
        name: pq.read_table(path) for name in ("items", "users") if (path := catalogue / f"{name}.parquet").exists()
    }
    tables["items"] = tables["items"].drop_columns(list(without))
    if users or items:
        log = core(log, users, items)
        for name, column in (("items", "item_id"), ("users", "user_id")):
            if name in tables:
                tables[name] = tables[name].filter(pc.is_in(tables[name][column], pc.unique(log[column])))
    out.mkdir(parents=True)
    for name, table in {**tables, "interactions": log}.items():
        pq.write_table(table, out / f"{name}.parquet")
    if (catalogue / "images").is_dir():
        shutil.copytree(catalogue / "images", out / "images")
    counts = [f"{len(table):,} {name}" for name, table in {**tables, "interactions": log}.items()]
    print(f"{out}: {', '.join(counts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without", nargs="+", default=(), metavar="COLUMN", help="columns of the items to leave out")
    parser.add_argument("--users", type=int, default=0, help="interactions that a user must have")
    parser.add_argument("--items", type=int, default=0, help="interactions that an item must have")
    arguments = parser.parse_args()
    if not (arguments.catalogue / "interactions.parquet").exists():
        parser.error(f"there is no {arguments.catalogue / 'interactions.parquet'}")
    if arguments.out.exists():
        parser.error(f"{arguments.out} is there already")
    try:
        write(arguments.catalogue, arguments.out, arguments.users, arguments.items, arguments.without)
    except KeyError as error:
        parser.error(f"the items have no such column: {error}")


if __name__ == "__main__":
    main()
