"""Build the wheel, install it into a clean environment and use it from elsewhere; `make wheel` runs this.

A development install has the repository on the path and would hide a missing file; only the built wheel tells.
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"molar", "molar_cli", "molar_eval", "molar_indexes", "molar_retrieval", "molar_serving"}


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    packages = {name for name in top if not name.endswith(".dist-info")}
    if packages != PACKAGES:
        raise SystemExit(f"the wheel holds {sorted(packages)}, expected {sorted(PACKAGES)}")
    page, nouns = Path("molar_serving/storefront/static"), Path("molar_retrieval/encoders/name_vectors")
    here = {f"{page}/{file.name}" for file in (ROOT / "serving" / page).iterdir()}
    here |= {f"{nouns}/{file.name}" for file in (ROOT / nouns).iterdir()}
    device = Path("molar_indexes/device")
    here |= {
        f"{device}/{part}/{one.name}"
        for part in ("static", "runtime")
        for one in (ROOT / "indexes" / device / part).iterdir()
    }
    if not here <= set(names):
        raise SystemExit(f"the wheel lacks {sorted(here - set(names))}")


def check_use(wheel: Path, folder: Path) -> None:
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    # Compiled is what these commands import; compiling all that torch brings takes a minute.
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", wheel], check=True)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    short = {**os.environ, "MOLAR_ALIGN_EPOCHS": "2", "OMP_NUM_THREADS": "1"}  # it may run beside other checks
    made = "import molar; molar.demo('.', items=100, users=160)"
    subprocess.run([programs / "python", "-c", made], check=True, cwd=elsewhere)
    evaluate = ["evaluate", "--model", "popularity", "--quiet"]  # reads data files
    query = ["query", "--user", "u0001"]
    for command in (["--version"], ["--help"], ["demo", "--help"], ["embed", "shop"], ["align"], query, evaluate):
        print("$ molar", *command, flush=True)  # noqa: T201 - a script
        subprocess.run([programs / "molar", *command], check=True, cwd=elsewhere, env=short)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build(folder / "dist")
        check_names(wheel)
        check_use(wheel, folder)
    print("wheel: ok")  # noqa: T201


if __name__ == "__main__":
    main()
