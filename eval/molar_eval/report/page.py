"""The report as one HTML page that needs no other file."""

from molar_eval.report import figures, grids, walking
from molar_eval.report.bottom_line import View, bottom_line, plain_title
from molar_eval.report.naming import shown, shown_examples
from molar_eval.report.schema import Report, ReportExamples
from molar_eval.report.verdict import judge
from molar_retrieval.reports.html import Pictures, render_page


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
        figures=figures,
        grids=grids,
        walking=walking,
        tables=[grids.of_table(table) for table in report.tables],
        examples=examples.users if examples else [],
        titles={view.result.name: view.title for view in views},
        kinds={model.name: model.kind for split in report.splits for model in split.models},
        picture=pictures.uri,
    )
