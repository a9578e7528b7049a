"""`molar recommend`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import (
    DEFAULTS,
    ClusterOption,
    IndexFallbackOption,
    IndexOption,
    RulesOption,
    check_rules,
    option,
    query_options,
)
from molar_cli.session import Session, command
from molar_retrieval import limits
from molar_retrieval.errors import DataError
from molar_retrieval.ranking.query import BATCH_OPTIONS, BatchQuery, QueryOptions

_LARGEST = 256 << 20
"""Bytes of a file of user ids."""


@command()
@query_options(BatchQuery, BATCH_OPTIONS)
def recommend(
    run: Session,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file: .parquet, .csv or .jsonl.")
    ] = Path("recommendations.parquet"),
    users: Annotated[Path | None, option("Only these users, one id per line; default: all.", metavar="FILE")] = None,
    segment: Annotated[
        str | None, option("Only people like this, by columns of index.segments.", metavar="CONDITION")
    ] = None,
    options: QueryOptions = DEFAULTS,
    rules_file: RulesOption = None,
    processes: Annotated[
        int | None, option("How many of this machine work at once; default: one per core.", min=1)
    ] = None,
    index: IndexOption = None,
    index_fallback: IndexFallbackOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Write the lists of all users to a file, the same that `molar query` gives each of them.

    A run that was killed goes on where it was.

    Example: [bold]molar recommend -k 20 --out tonight.parquet[/]
    """
    check_rules(rules_file, options)
    report = run.shop().recommend(
        out, users=None if users is None else _lines(users), segment=segment, processes=processes,
        rules_file=rules_file, index=index, index_fallback=index_fallback, cluster=cluster, **options,
    )  # fmt: skip
    if run.document(report.to_dict()):
        return
    run.console.line(f"{report.rows:,} recommendations for {report.users:,} users: {report.path}")
    run.console.note(*report.notes)
    if report.skipped:
        run.console.note(f"{report.skipped:,} users have no list: no history is known, or they are not chosen")
    if report.short:
        run.console.note(f"{report.short:,} users have fewer than {options.get('k', 10)} items, as no others may come")


def _lines(path: Path) -> list[str]:
    limits.path("the file of users", path)
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise DataError(f"{path} is larger than {_LARGEST >> 20} MiB", "leave --users out for the lists of all")
        return list(dict.fromkeys(line.strip() for line in raw.decode("utf-8").splitlines() if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "name a text file with one user id per line") from error
