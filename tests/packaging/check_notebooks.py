"""Run the notebooks of `examples/`; `make notebooks` writes their outputs, the tests only run them.

python tests/packaging/check_notebooks.py [--write] [NAME …]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOO_LARGE = 150_000
"""Bytes of a notebook with its outputs: a reader should not wait for it."""


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in an empty folder.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ every time
        if "outputs" in cell:  # progress and warnings are for those who wait
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and not _cleared(o)]
    return notebook


def _cleared(output: nbformat.NotebookNode) -> bool:
    """Whether it is a display that showed progress and was emptied at its end."""
    return output.output_type == "display_data" and not output.data.get("text/html", "x").strip()


def main(arguments: list[str]) -> None:
    write = "--write" in arguments
    names = [name for name in arguments if name != "--write"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        start = time.perf_counter()
        notebook = run(path)
        size = len(nbformat.writes(notebook))
        print(f"{path.stem}: {time.perf_counter() - start:.0f} s, {size:,} bytes")
        if size > TOO_LARGE:
            raise SystemExit(f"{path.name} has {size:,} bytes with its outputs; show less, at most {TOO_LARGE:,}")
        if write:
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
