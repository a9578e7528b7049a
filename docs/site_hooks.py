"""What the site has besides the documents: the README as its first page, the notebooks, a page per committed report."""

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("cli", "indexes", "eval", "serving"))]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of other files."""
    readme = (ROOT / "README.md").read_text("utf-8")
    files.append(File.generated(config, "index.md", content=_inside(readme)))
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=_notebook(path)))
    for path in sorted((ROOT / "eval" / "results").glob("*.json")):
        files.append(File.generated(config, f"reports/{path.stem}.html", content=_report(path)))
    for path in sorted((ROOT / "eval" / "results" / "check").glob("*.json")):
        files.append(File.generated(config, f"reports/check/{path.name}", content=path.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to committed reports to their pages."""
    markdown = re.sub(r"\]\(\.\./eval/results/(check/[\w-]+\.json)\)", r"](reports/\1)", markdown)
    return re.sub(r"\]\(\.\./eval/results/([\w-]+)\.json\)", r"](reports/\1.html)", markdown)


def _inside(readme: str) -> str:
    """The README with links as they are within the site; what the site does not have is no link."""
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", readme)
    text = re.sub(r"\]\(examples/(\w+)\.ipynb\)", r"](examples/\1.md)", text)
    return re.sub(r"\[([^\]]+)\]\((?:CONTRIBUTING|CHANGELOG|LICENSE)[^)]*\)", r"\1", text)


def _notebook(path: Path) -> str:
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [shown for output in cell.outputs if (shown := _output(output))]
    return "\n\n".join(parts)


def _output(output: Any) -> str:
    data = output.get("data", {})
    if html := data.get("text/html"):
        plain = re.sub(r"<style.*?</style>| border=\"1\" class=\"dataframe\"", "", html, flags=re.DOTALL)
        return f"<div>{plain}</div>".replace("\n", "")
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text else ""


def _report(path: Path) -> str:
    from molar_eval.report.page import read_report, render
    from molar_retrieval.reports.html import Pictures

    return render(read_report(path), None, Pictures(ROOT))
