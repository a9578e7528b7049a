"""`molar check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import CatalogueArgument, TrustOption, option
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from molar_retrieval.quality.check import CheckReport


@command()
def check(
    run: Session,
    catalog: CatalogueArgument,
    with_embeddings: Annotated[
        bool, option("Embed what has no vectors yet, to compare photos with words.", "--with-embeddings")
    ] = False,
    photos: Annotated[
        bool, typer.Option("--photos/--no-photos", help="Decode photos, or look at paths and headers only.")
    ] = True,
    page: Annotated[Path | None, option("The HTML page; default: check.html in the workspace.", metavar="FILE")] = None,
    fix_list: Annotated[
        Path | None, option("Write a row for each fault: .parquet, .csv or .jsonl.", metavar="FILE")
    ] = None,
    strict: Annotated[bool, option("Exit 1 on errors and warnings too.", "--strict")] = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Say what is wrong with the data, how much it matters and what to do, before money is spent on them.

    Exit 0: the data can be used, whatever was found. Exit 1: they cannot, or --strict and there are errors or warnings.
    What was measured of photos is kept: the next run looks at what has changed.

    Example: [bold]molar check catalog/ --fix-list issues.parquet[/]

    Example, with photos compared to words: [bold]molar check catalog/ --with-embeddings[/]
    """
    from molar.findings import CHECK_PAGE
    from molar_retrieval.quality.findings import Severity

    report = run.shop(catalog).check(
        with_embeddings=with_embeddings,
        photos=photos,
        fix_list=fix_list,
        page=page,
        trust_remote_code=trust_remote_code,
    )
    written = page or run.root / CHECK_PAGE
    if not run.document({**report.to_dict(), "page": str(written), "fix_list": fix_list and str(fix_list)}):
        _print(run, report, written, fix_list)
    serious = report.count(Severity.ERROR) + report.count(Severity.WARNING)
    if not report.usable or (strict and serious):
        raise typer.Exit(1)


def _print(run: Session, report: "CheckReport", page: Path, fix_list: Path | None) -> None:
    from molar_retrieval.quality.rendering import consequence, lines, verdict

    run.console.line(verdict(report), *filter(None, [consequence(report)]), "", *lines(report))
    if report.log is not None:
        run.console.line("The log", *(f"  {line}" for line in report.log.lines()), "")
    if report.outlook:
        run.console.line("What to expect", *(f"  {line}" for line in report.outlook), "")
    run.console.line(*(f"not checked: {line}" for line in report.left_out), f"page: {page}")
    if fix_list is not None:
        run.console.line(f"fix list: {fix_list}")
