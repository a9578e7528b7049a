"""Write the lock files from pyproject.toml (`make lock`), or check offline that they are current (`--check`).

Each lock file has exact versions with the SHA-256 hashes of their files, for every platform and Python 3.11 or newer:

    torch.lock     torch and torchvision, so that they can be installed from another index
    runtime.lock   what molar needs, with torch.lock
    build.lock     what builds molar from source
    dev.lock       everything for development and CI, with the two above
    cuda.lock      the libraries that PyPI's build of torch for Linux needs in addition
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "requirements"
INCLUDED = {"runtime": ("torch",), "dev": ("runtime", "build")}
LOCKS = ("torch", "runtime", "build", "dev", "cuda")
CUDA = re.compile(r"(cuda|nvidia)-|triton$")
EDITABLE = "editables>=0.5"  # hatchling asks for it only when an editable install is built
LIMITS = ["mpmath<1.4"]  # uv would rather take a newer mpmath and with it a pre-release of sympy

Entries = dict[str, list[str]]
"""Hashes by requirement, as `name==version ; marker`."""


def direct(root: Path) -> dict[str, list[str]]:
    """The requirements that pyproject.toml states, by the lock file that begins with them."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return {
        "runtime": project["project"]["dependencies"],
        "build": [*project["build-system"]["requires"], EDITABLE],
        "dev": project["dependency-groups"]["dev"],
    }


def builds(root: Path) -> Entries:
    """The versions of PyTorch, with hashes of files that are not on PyPI."""
    table = tomllib.loads((root / FOLDER / "torch.toml").read_text("utf-8"))
    return {f"{name}=={one['version']}": one["cpu"] for name, one in table.items()}


def digest(root: Path) -> str:
    """A digest of all that the lock files are made from."""
    inputs = {**direct(root), "torch": builds(root)}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def parse(text: str) -> Entries:
    """The entries of a requirements file with hashes."""
    entries: Entries = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line and not line.startswith(("#", "-")):
            requirement, *hashes = line.split(" --hash=")
            entries[requirement.strip()] = [one.strip() for one in hashes]
    return entries


def compile_(requirements: Iterable[str], constraints: str, known: str, upgrade: bool) -> Entries:
    """All that the requirements lead to; versions in `known` are kept where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        output, limits = Path(folder) / "known.txt", Path(folder) / "limits.txt"
        output.write_text(known, "utf-8")
        limits.write_text(constraints, "utf-8")
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version=3.11",
            "--generate-hashes",
        ]
        command += ["--no-annotate", "--no-header", f"--constraint={limits}", f"--output-file={output}", "-"]
        subprocess.run(
            [*command, *(["--upgrade"] if upgrade else [])], input="\n".join(requirements), text=True, check=True
        )
        return parse(output.read_text("utf-8"))


def pin(requirement: str) -> str:
    """`name==version`, without a marker; one file may need it on fewer platforms than another."""
    return requirement.partition(";")[0].strip()


def write(root: Path, upgrade: bool) -> None:
    """Resolve everything once, then tell which of it belongs to which file."""
    asked = direct(root)
    extra = builds(root)
    paths = [root / FOLDER / f"{name}.lock" for name in LOCKS]
    known = "\n".join(path.read_text("utf-8") for path in paths if path.exists())
    known = re.sub(r"^-r .*", "", known, flags=re.MULTILINE)
    whole = compile_([*asked["runtime"], *asked["build"], *asked["dev"]], "\n".join([*extra, *LIMITS]), known, upgrade)
    for requirement, hashes in extra.items():
        whole[requirement] = sorted({*whole[requirement], *hashes})
    hashes_of = {pin(requirement): hashes for requirement, hashes in whole.items()}
    pins = "\n".join(whole)
    files = {name: set(compile_(asked[name], pins, pins, upgrade=False)) for name in ("runtime", "build")}
    files["dev"] = set(whole)
    files["torch"] = {one for one in whole if one in extra}
    files["cuda"] = {one for one in whole if CUDA.match(Requirement(one).name)}
    files["dev"] -= files["runtime"] | files["build"]
    for name in ("runtime", "dev"):
        files[name] -= files["torch"] | files["cuda"]
    made = digest(root)
    for name in LOCKS:
        lines = [
            "# Written by `make lock` from pyproject.toml and torch.toml; do not edit.",
            f"# inputs: sha256:{made}",
        ]
        lines += [f"-r {other}.lock" for other in INCLUDED.get(name, ())]
        for requirement in sorted(files[name]):
            lines.append(" \\\n".join([requirement, *(f"    --hash={one}" for one in hashes_of[pin(requirement)])]))
        (root / FOLDER / f"{name}.lock").write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{FOLDER}/{name}.lock: {len(files[name])} packages")


def problems(root: Path) -> list[str]:
    """Why the lock files are not current, without a network."""
    found, made, locked = [], digest(root), {}
    for name in LOCKS:
        path = root / FOLDER / f"{name}.lock"
        text = path.read_text("utf-8") if path.exists() else ""
        if f"# inputs: sha256:{made}\n" not in text:
            found.append(f"{FOLDER}/{name}.lock was not written from the present pyproject.toml and torch.toml")
        for requirement, hashes in parse(text).items():
            try:
                (exact,) = Requirement(requirement).specifier
            except (InvalidRequirement, ValueError):
                found.append(f"{FOLDER}/{name}.lock: {requirement!r} is not pinned to one version")
                continue
            if exact.operator != "==" or "*" in exact.version:
                found.append(f"{FOLDER}/{name}.lock: {requirement!r} is not pinned to one version")
            if not hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes):
                found.append(f"{FOLDER}/{name}.lock: {requirement!r} has no SHA-256 hashes")
            locked.setdefault(canonicalize_name(Requirement(requirement).name), []).append(exact.version)
    for text in (one for part in direct(root).values() for one in part):
        asked = Requirement(text)
        versions = locked.get(canonicalize_name(asked.name), [])
        if not versions:
            found.append(f"pyproject.toml asks for {text!r}, which no lock file has")
        found += [
            f"pyproject.toml asks for {text!r}, locked is {one}" for one in versions if one not in asked.specifier
        ]
    return found


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the files are not current")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions of everything")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of pyproject.toml")
    given = parser.parse_args()
    if not given.check:
        write(given.root, given.upgrade)
    if found := problems(given.root):
        sys.exit("\n".join([*found, "run `make lock`"]))


if __name__ == "__main__":
    main()
