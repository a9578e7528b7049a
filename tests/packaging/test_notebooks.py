"""The notebooks of `examples/` run from their first cell to their last, and are small with their outputs."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent
spec = importlib.util.spec_from_file_location("check_notebooks", FOLDER / "check_notebooks.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
NOTEBOOKS = sorted(check.EXAMPLES.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MOLAR_ALIGN_EPOCHS", "1")
    notebook = check.run(path)
    shown = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    kept = [len(cell.outputs) for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [n > 0 for n in shown] == [n > 0 for n in kept], "write its outputs anew: `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_tells_nothing_of_where_it_ran(path):
    text = path.read_text("utf-8")
    assert len(text) <= check.TOO_LARGE
    assert "/tmp" not in text
    assert str(Path.home()) not in text
