"""The report as one HTML page that needs no other file."""

from typing import NamedTuple

from molar_eval.report import figures, grids, walking
from molar_eval.report.naming import shown, shown_examples
from molar_eval.report.schema import Report, ReportExamples, SplitResult
from molar_eval.report.verdict import Verdict, judge
from molar_retrieval.pages.page import render_page
from molar_retrieval.pages.pictures import Pictures


class View(NamedTuple):
    """A split as the page shows it."""

    result: SplitResult
    anchor: str
    verdict: Verdict


def render(report: Report, examples: ReportExamples | None, pictures: Pictures) -> str:
    """The page: plain words at the top, everything else below; the same input gives the same page."""
    examples, report = shown_examples(examples, report), shown(report)
    splits = enumerate(report.splits, start=1)
    return render_page(
        "molar_eval.report",
        "page.html.jinja",
        report=report,
        views=[View(split, f"split-{number}", judge(split, report.made)) for number, split in splits],
        figures=figures,
        grids=grids,
        walking=walking,
        tables=[grids.of_table(table) for table in report.tables],
        examples=examples.users if examples else [],
        titles={split.name: split.title for split in report.splits},
        kinds={model.name: model.kind for split in report.splits for model in split.models},
        picture=pictures.uri,
    )
