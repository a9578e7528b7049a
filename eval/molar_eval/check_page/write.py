"""The page's file."""

from pathlib import Path

from molar_eval.check_page.page import render
from molar_eval.report.pictures import Pictures
from molar_retrieval.quality.report import CheckReport
from molar_retrieval.workspace import write_atomically


def write_page(path: Path, report: CheckReport, catalogue: Path) -> None:
    """Write the page, whole or not at all; its folder is made.

    Args:
        path: Of the page.
        report: What was found.
        catalogue: Folder whose photos are shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(report, Pictures(catalogue)))
