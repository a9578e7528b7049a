"""Run the tests with the lowest versions that pyproject.toml promises; `make lowest` runs this."""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lowest() -> list[str]:
    """Every direct requirement, pinned to its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    bounds = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    return [re.sub(r">=([\d.]+).*", r"==\1", bound) for bound in bounds]


def main() -> None:
    folder = Path(sys.argv[1])
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *lowest()], check=True)
    subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
    tests = subprocess.run([python, "-m", "pytest", "-p", "no:cacheprovider"], cwd=ROOT, check=False)
    raise SystemExit(tests.returncode)


if __name__ == "__main__":
    main()
