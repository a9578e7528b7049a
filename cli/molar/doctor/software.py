"""Python and the libraries: which versions, and whether they go together."""

import platform
import re
import sqlite3
import struct
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from molar.doctor.findings import Entry, Section, State
from molar_retrieval import __version__

DISTRIBUTION = "molar-retrieval"
_MOST = 5


def software(deep: bool) -> Section:
    """Python, molar and what it needs.

    Args:
        deep: Import PyTorch and the index engine, too.
    """
    entries = [_python(), _molar()]
    entries += _requirements(DISTRIBUTION)
    entries += _conflicts(DISTRIBUTION)
    entries.append(Entry("sqlite", sqlite3.sqlite_version))
    if deep:
        entries += [_imported(name) for name in ("torch", "transformers", "implicit", "qdrant_edge")]
    return Section("software", "Software", tuple(entries))


def _python() -> Entry:
    bits = 8 * struct.calcsize("P")
    where = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    value = f"{platform.python_version()} ({platform.python_implementation()}, {bits} bits, {where})"
    if sys.getfilesystemencoding().lower() != "utf-8":
        remedy = "set PYTHONUTF8=1 or a UTF-8 locale"
        return Entry("python", value, State.WARNING, "names of files are not read as UTF-8", remedy)
    return Entry("python", value, data={"version": platform.python_version(), "bits": bits})


def _molar() -> Entry:
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        problem = "molar runs from a folder of sources; the bounds of its libraries are not known"
        return Entry("molar", __version__, State.WARNING, problem, "pip install -e . in that folder")
    if found.version != __version__:
        problem = f"version {__version__} runs, but {found.version} is what was installed"
        return Entry("molar", __version__, State.WARNING, problem, "pip install -e . in the folder of the sources")
    return Entry("molar", __version__)


def _requirements(distribution: str) -> Iterator[Entry]:
    """What a distribution asks for, and whether it is there in a version that it allows."""
    for name, bounds, optional in needs(distribution):
        version = _version(name)
        if version is None:
            if not optional:
                remedy = f'pip install "{name}{bounds}"'
                yield Entry(name, "missing", State.BROKEN, f"{name} is not installed", remedy)
        elif not _allows(bounds, version):
            problem = f"{name} {version} is installed, molar needs {bounds}"
            yield Entry(name, version, State.BROKEN, problem, f'pip install "{name}{bounds}"')
        else:
            yield Entry(name, _with_build(name, version), data=version)


def _conflicts(distribution: str) -> Iterator[Entry]:
    """Whether the libraries allow each other's versions, as `pip check` would tell."""
    found = list(conflicts(distribution))
    if not found:
        yield Entry("versions", "go together", data=[])
        return
    problem = "; ".join(found[:_MOST]) + (f"; and {len(found) - _MOST} more" if len(found) > _MOST else "")
    remedy = f'let pip choose: pip install --upgrade "{distribution}"'
    yield Entry("versions", f"{len(found)} conflicts", State.WARNING, problem, remedy, data=found)


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
    """Libraries that something among a distribution's libraries needs in another version."""
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
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _allows(bounds: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(bounds).contains(version, prereleases=True)
    except InvalidVersion:
        return True


def _with_build(name: str, version: str) -> str:
    return f"{version} ({torch_build()})" if name == "torch" else version


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
    """Whether a library with native code loads."""
    try:
        __import__(module)
    except Exception as error:  # whatever a damaged library does
        problem = (
            f"importing {module} fails: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        return Entry(f"import {module}", "fails", State.BROKEN, problem, f"install {module.replace('_', '-')} again")
    return Entry(f"import {module}", "works")
