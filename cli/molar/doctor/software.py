"""Python and the libraries: which versions, and whether they go together."""

import platform
import re
import sqlite3
import struct
import sys
from collections.abc import Iterator
from importlib import import_module, metadata, util
from pathlib import Path

from molar.doctor.health import Entry, Fault, broken, entry
from molar_retrieval import __version__
from molar_retrieval.workspace.resources import library_versions

DISTRIBUTION = "molar-retrieval"
_MOST = 5
_SQLITE = (3, 51, 3)
"""Before this version two writers of one file could damage it (https://sqlite.org/wal.html#walresetbug)."""


def software(deep: bool, *, versions: bool = False) -> Iterator[Entry]:
    """Python, molar and libraries that do not fit, or all ``versions``; ``deep`` imports some of them, too."""
    bits = 8 * struct.calcsize("P")
    where = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield entry(
        "python",
        f"{platform.python_version()} ({platform.python_implementation()}, {bits} bits, {where})",
        sys.getfilesystemencoding().lower() != "utf-8"
        and Fault("names of files are not read as UTF-8", "set PYTHONUTF8=1 or a UTF-8 locale"),
        data={"version": platform.python_version(), "bits": bits},
    )
    yield entry("molar", __version__, _molar())
    for name, bounds, optional in needs(DISTRIBUTION):
        version, remedy = _version(name), f'pip install "{name}{bounds}"'
        if version is not None:
            fits = _allows(bounds, version)
            wrong = f"{name} {version} is installed, molar needs {bounds}"
            value = f"{version} ({torch_build()})" if name == "torch" else version
            if versions or not fits:
                yield entry(name, value, not fits and broken(wrong, remedy), data=version)
        elif not optional:
            yield entry(name, "missing", broken(f"{name} is not installed", remedy))
    found = list(conflicts(DISTRIBUTION))
    problem = "; ".join(found[:_MOST]) + (f"; and {len(found) - _MOST} more" if len(found) > _MOST else "")
    remedy = f'let pip choose: pip install --upgrade "{DISTRIBUTION}"'
    value = f"{len(found)} conflicts" if found else "go together"
    yield entry("versions", value, bool(found) and Fault(problem, remedy), data=found)
    damaging = "" if sqlite3.sqlite_version_info >= _SQLITE else "; writers of the event log take turns by a lock"
    yield entry("sqlite", f"{sqlite3.sqlite_version}{damaging}", data=sqlite3.sqlite_version)
    if deep:
        yield from map(_imported, ("torch", "transformers", "implicit", "qdrant_edge"))


def _molar() -> Fault | None:
    found = _version(DISTRIBUTION)
    if found is None:
        problem = "molar runs from a folder of sources; the bounds of its libraries are not known"
        return Fault(problem, "pip install -e . in that folder")
    problem = f"version {__version__} runs, but {found} is what was installed"
    return None if found == __version__ else Fault(problem, "pip install -e . in the folder of the sources")


def needs(distribution: str) -> Iterator[tuple[str, str, bool]]:
    """Name and bounds of what a distribution asks for here, and whether that is optional; none for an unknown one."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        listed = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for line in listed:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        optional = wanted.marker is not None and "extra" in str(wanted.marker)
        here = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if here or (optional and distribution == DISTRIBUTION):
            yield wanted.name, str(wanted.specifier), optional


def conflicts(distribution: str) -> Iterator[str]:
    """Libraries that something among a distribution's libraries needs in another version, as `pip check` would tell."""
    waiting, seen = [distribution], {distribution}
    while waiting:
        asking = waiting.pop()
        for name, bounds, optional in needs(asking):
            version = _version(name)
            if asking != distribution and not optional and version is None:
                yield f"{asking} needs {name}, which is not installed"
            elif asking != distribution and version is not None and not _allows(bounds, version):
                yield f"{asking} needs {name}{bounds}, {version} is installed"
            key = name.lower().replace("_", "-")
            if version is not None and key not in seen:
                seen.add(key)
                waiting.append(name)


def _version(name: str) -> str | None:
    return library_versions(name).get(name)


def _allows(bounds: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(bounds).contains(version, prereleases=True)
    except InvalidVersion:
        return True


def torch_build() -> str:
    """What PyTorch was built for, read from its files: importing it takes seconds."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "missing"
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return "unknown"
    for name, label in (("cuda", "CUDA"), ("hip", "ROCm"), ("xpu", "XPU")):
        if built := re.search(rf"^{name}\b.*?= ['\"]([\w.]+)['\"]", text, re.MULTILINE):
            return f"{label} {built[1]}"
    return "CPU"


def _imported(module: str) -> Entry:
    try:
        import_module(module)
    except Exception as error:  # whatever a damaged library does
        first = str(error).partition("\n")[0]
        problem = f"importing {module} fails: {type(error).__name__}: {first}"
        return entry(f"import {module}", "fails", broken(problem, f"install {module.replace('_', '-')} again"))
    return entry(f"import {module}", "works")
