"""Fingerprints of code: a cached result must not outlive a change of the code that made it, but every other commit."""

import ast
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.resources import library_versions

LIBRARIES = ("numpy", "scipy", "torch", "implicit", "qdrant-edge-py", "sentence-transformers", "transformers")
"""Those whose versions shape results."""
_SCRIPTS = Path(__file__).parent / "models" / "peers" / "scripts"
RESULTS = (
    "molar_eval.models.registry",
    "molar_eval.model_runs",
    "molar_eval.prequential",
    "molar_eval.results",
    "molar_eval.splits",
    *(f"molar_eval.models.peers.scripts.{path.stem}" for path in sorted(_SCRIPTS.glob("*-*.py"))),
)
"""What the numbers of a report come from: models, splits, ranking, metrics and statistics; not how they are shown."""

_OURS = ("molar_retrieval", "molar_indexes", "molar_eval")


def of_making(*names: str) -> str:
    """The fingerprint of :func:`of_modules` and of the versions of the libraries under them."""
    return fingerprint.of_json([of_modules(*names), library_versions(*LIBRARIES)])


def of_modules(*names: str) -> str:
    """The fingerprint of modules and of all of ours that they import; comments, docstrings and layout do not count."""
    return fingerprint.of_json({name: _read(name)[1] for name in sorted(reached(*names))})


def reached(*names: str) -> set[str]:
    """The named modules and all modules of ours that they import, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_read(name)[0])
    return found


def commit() -> str | None:
    """The commit of the source that runs, ``+changes`` behind it where files differ; None outside of a checkout."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an environment inside of somebody else's checkout is not ours
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _read(name: str) -> tuple[frozenset[str], str]:
    """Modules of ours that a module imports, wherever it does so, and their packages; the fingerprint of its code."""
    found: set[str] = set()
    tree = ast.parse(_source(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:]
    named = {".".join(words[: n + 1]) for words in (full.split(".") for full in found) for n in range(len(words))}
    ours = frozenset(module for module in named if module.split(".")[0] in _OURS and _path(module) is not None)
    return ours, fingerprint.of_json(ast.dump(tree))


def _source(name: str) -> str:
    path = _path(name)
    return path.read_text("utf-8") if path is not None else ""


@cache
def _path(name: str) -> Path | None:
    """The file of a module of ours; None where the name is not a module but something in one."""
    try:
        spec = find_spec(name)
    except (ModuleNotFoundError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None
