"""`molar check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, QuietOption, SettingsOption, TrustOption, WorkspaceOption
from molar_cli.session import Session, session

if TYPE_CHECKING:
    from molar_retrieval.quality.report import CheckReport


def check(
    catalog: Annotated[
        Path, typer.Argument(help="Folder with items.parquet, .csv or .jsonl and images/.", show_default=False)
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Embed what has no vectors yet, to compare photos with words.")
    ] = False,
    photos: Annotated[
        bool, typer.Option("--photos/--no-photos", help="Decode photos, or look at paths and headers only.")
    ] = True,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Measure what embedding takes here, by a few items.")
    ] = True,
    gpu: Annotated[str, typer.Option(help="The GPU of the other forecast: L4, A100, H100 …")] = "A100",
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The HTML page; default: check.html in the workspace.")
    ] = None,
    fix_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a Parquet file with a row for each fault.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on errors and warnings too.")] = False,
    trust_remote_code: TrustOption = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what is wrong with the data, how much it matters and what to do, before money is spent on them.

    Exit 0: the data can be used, whatever was found. Exit 1: they cannot, or --strict and there are errors or warnings.
    What was measured of photos is kept: the next run looks at what has changed.

    Example: [bold]molar check catalog/ --fix-list issues.parquet[/]

    Example, with photos compared to words: [bold]molar check catalog/ --deep[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar.making import CHECK_PAGE
        from molar_retrieval.quality.findings import Severity

        report = run.shop(catalog, settings).check(
            deep=deep,
            photos=photos,
            forecast=forecast,
            gpu=gpu,
            fix_list=fix_list,
            page=page,
            trust_remote_code=trust_remote_code,
        )
        written = page or run.root / CHECK_PAGE
        if json:
            run.console.document({**report.to_dict(), "page": str(written), "fix_list": fix_list and str(fix_list)})
        else:
            _tell(run, report, written, fix_list)
        serious = report.count(Severity.ERROR) + report.count(Severity.WARNING)
        if not report.usable or (strict and serious):
            raise typer.Exit(1)


def _tell(run: Session, report: "CheckReport", page: Path, fix_list: Path | None) -> None:
    from molar_eval.check_page.terminal import lines, pair_lines, verdict

    run.console.line(verdict(report))
    run.console.line("")
    for line in lines(report):
        run.console.line(line)
    if report.log_lines:
        run.console.line("The log")
        for line in report.log_lines:
            run.console.line(f"  {line}")
        run.console.line("")
    if report.readiness is not None:
        run.console.line("What to expect")
        for line in [*report.readiness.sentences, *pair_lines(report)]:
            run.console.line(f"  {line}")
        run.console.line("")
    for line in report.left_out:
        run.console.line(f"not checked: {line}")
    run.console.line(f"page: {page}")
    if fix_list is not None:
        run.console.line(f"fix list: {fix_list}")
