"""The page of a report, and its files."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from molar_eval.report import plots, tables
from molar_eval.report.schema import FORMAT, Report, ReportExamples
from molar_eval.report.verdict import View, bottom_line, judge, plain_title, shown, shown_examples
from molar_retrieval.errors import DataError, MissingArtefactError
from molar_retrieval.reports.html import Pictures, render_page
from molar_retrieval.workspace.files import OWNER, write_atomically


def render(report: Report, examples: ReportExamples | None, pictures: Pictures) -> str:
    """The page: plain words at the top, everything else below; the same input gives the same page."""
    examples, report = shown_examples(examples, report), shown(report)
    splits = enumerate(report.splits, start=1)
    views = [View(split, f"split-{n}", plain_title(split), judge(split, report.made)) for n, split in splits]
    return render_page(
        "molar_eval.report",
        "page.html.jinja",
        report=report,
        bottom=bottom_line(views, report.primary_comparison),
        views=views,
        plots=plots,
        grids=tables,
        tables=[tables.of_table(table) for table in report.tables],
        examples=examples.users if examples else [],
        titles={view.result.name: view.title for view in views},
        kinds={model.name: model.kind for split in report.splits for model in split.models},
        picture=pictures.uri,
    )


REPORT = "report.json"
EXAMPLES = "examples.json"
PAGE = "report.html"


def write_report(folder: Path, report: Report, examples: ReportExamples | None, catalogue: Path) -> None:
    """Write the three files, each of them whole or not at all, in place of those of an earlier report.

    The folder is made. Without examples an earlier file of them goes; ``catalogue`` has the photos that they show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if examples is None:
        (folder / EXAMPLES).unlink(missing_ok=True)
    else:
        write_atomically(folder / EXAMPLES, examples.model_dump_json(indent=1) + "\n", OWNER)
    write_atomically(folder / PAGE, render(report, examples, Pictures(catalogue)), OWNER)
    write_atomically(folder / REPORT, report.model_dump_json() + "\n")


def read_report(path: Path) -> Report:
    """Read a report; MissingArtefactError if there is none, DataError if it is another thing, or of another format."""
    if not path.is_file():
        raise MissingArtefactError(f"there is no report {path}", "run `molar evaluate` first")
    try:
        content: Any = from_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "run `molar evaluate` again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        what = "has no format" if found is None else f"has the format {found!r}"
        raise DataError(
            f"{path} {what}, this molar reads reports of format {FORMAT}",
            "run `molar evaluate` again, or read the file with the version of molar that wrote it",
        )
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path} is no report: {where}: {first['msg']}", "run `molar evaluate` again") from error
