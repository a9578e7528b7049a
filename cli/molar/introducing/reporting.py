"""The page of an experiment for those who decide, as a file."""

from pathlib import Path

from molar.introducing.standing import ExperimentStatus
from molar_eval.experiments.report import board_page
from molar_retrieval.errors import DataError
from molar_retrieval.workspace.files import write_atomically


def write_page(status: ExperimentStatus, path: Path, language: str) -> Path:
    """Write the page of an experiment of which it was asked what is known; the file.

    Raises:
        RequestError: If the page does not speak the language.
        DataError: If the path is a folder, or in none.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"{path} cannot be written", "name a file in a folder that is there")
    assert status.results is not None
    write_atomically(path, board_page(status.results, status.experiment, status.stages, language))
    return path
