"""The report as one HTML page that needs no other file."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from molar_eval.report import grids, svg, words
from molar_eval.report.pictures import Pictures
from molar_eval.report.policy import policy, source
from molar_eval.report.schema import Examples, Report
from molar_eval.report.views import views


def render(report: Report, examples: Examples | None, pictures: Pictures) -> str:
    """The page: plain words at the top, everything else below; the same input gives the same page.

    Args:
        report: What is shown.
        examples: A few users; None leaves them out.
        pictures: Where the photos of the examples come from.
    """
    environment = _environment()
    style = source(environment, "molar_eval.report", "style.css")
    return environment.get_template("page.html.jinja").render(
        report=report,
        style=style,
        policy=policy(style),
        views=views(report),
        tables=[grids.of_table(table) for table in report.tables],
        examples=examples.users if examples else [],
        titles={split.name: split.title for split in report.splits},
        kinds={model.name: model.kind for split in report.splits for model in split.models},
        picture=pictures.uri,
    )


def _environment() -> Environment:
    # Everything that comes from data is escaped; the plots' Markup escapes what it is given.
    environment = Environment(
        loader=PackageLoader("molar_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "count": words.count,
        "duration": words.duration,
        "flat": words.flat,
        "fraction": words.fraction,
        "metric": words.metric,
        "number": words.number,
    }
    environment.filters.update(filters)
    environment.globals.update(key=svg.key, plural=words.plural)
    return environment
