"""Write docs/results.md from the reports in eval/results; `make docs` runs this, a test checks that it was run."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "eval" / "results"
TARGET = Path(__file__).with_name("results.md")


def reports(folder: Path) -> list[Path]:
    """The reports: ``NAME.json`` and ``NAME/report.json``."""
    return sorted([*folder.glob("*.json"), *folder.glob("*/report.json")])


def _link(path: Path, folder: Path) -> str:
    return f"../eval/results/{path.relative_to(folder).as_posix()}"


def render(folder: Path = RESULTS) -> str:
    """The document; reports that other code made than the present one are marked."""
    from molar_eval.modules import RESULTS as MODULES
    from molar_eval.modules import of_modules
    from molar_eval.report.markdown import results
    from molar_eval.report.planted import planted
    from molar_eval.report.write import read_report

    found = {_link(path, folder): read_report(path) for path in reports(folder)}
    checks = {_link(path, folder): json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("check/*.json"))}
    return results(found, of_modules(*MODULES)) + planted(checks)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
