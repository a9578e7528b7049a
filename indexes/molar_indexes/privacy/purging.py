"""What knew people who are forgotten, or object: copies of the past go, then what was live before the rebuild."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from molar_indexes.privacy.certificate import BeyondReach
from molar_retrieval.encoders import head
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.retention import KeptCopy, remove, retained_copies
from molar_retrieval.workspace.artefacts import PRIVATE, Workspace, discard

if TYPE_CHECKING:
    from molar_indexes.server.config import ServerConfig

_PAGES = ("check.html", "findings/last.json", "recommendations.*")
"""Files of the workspace that may tell of people, and are made again by the command that made them."""
_OF_PEOPLE = ("interactions", "statistics", "als", "alignment", "generations")
_PATIENCE, _AGAIN = 15.0, 0.25
"""Seconds that a server may take to leave a generation, and between two looks."""


def remove_copies(workspace: Workspace) -> dict[str, int]:
    """Remove what evaluations keep, unfinished work, pages of checks and lists; how many, by kind."""
    chosen = [
        one for one in retained_copies(workspace) if one.what == "evaluation" or one.path.parent.name in _OF_PEOPLE
    ]
    gone = remove(workspace, [one for one in chosen if one.what != "generation"])
    training = list(workspace.root.glob(".*.training/"))  # of a language model
    for folder in training:
        discard(folder)
    found = {what: sum(one.what == what for one in gone) for what in ("evaluation", "unfinished")}
    found["unfinished"] += len(training)
    pages = [path for pattern in _PAGES for path in workspace.root.glob(pattern) if path.is_file()]
    for path in pages:
        path.unlink(missing_ok=True)
    return found | {"pages": len(pages)}


def remove_former(workspace: Workspace) -> tuple[list[str], list[BeyondReach]]:
    """Remove every generation but the live one; names of what went, and what is still there.

    A running server leaves a generation a moment after another one went live.
    """
    end, gone = time.monotonic() + _PATIENCE, list[KeptCopy]()
    while True:
        gone += remove(workspace, left := _former(workspace))
        left = [one for one in left if one.path.exists()]
        if not left or time.monotonic() > end:
            break
        time.sleep(_AGAIN)
    still = [BeyondReach("held", one.path.name) for one in left]
    return [one.path.name for one in gone], [*still, *(BeyondReach("shown", name) for name in shown(workspace))]


def remove_released(workspace: Workspace) -> tuple[int, list[BeyondReach]]:
    """Remove statistics with noise that nothing live is made of; how many releases, and those that are still there.

    Releases of a log that had them would be kept to be found again where the log is, which it never will be.
    """
    store, alignment = workspace["statistics"], workspace["alignment"].manifest
    before = store.versions()
    if not before:
        return 0, []
    with suppress(DataError), workspace.lock("statistics"):  # somebody may be releasing
        if alignment is None or PRIVATE not in alignment.facts:
            (store.root / "current").unlink(missing_ok=True)
        store.prune(0)
    left = [folder for folder in store.versions() if folder != store.current]
    return len(before) - len(store.versions()), [BeyondReach("held", folder.name) for folder in left]


def shown(workspace: Workspace) -> list[str]:
    """Former generations that running experiments show."""
    store = workspace["generations"]
    with ExperimentStore(workspace) as experiments:
        names = sorted(experiments.generations())
    return [name for name in names if (store.root / name).exists() and store.root / name != store.current]


def remove_collections(workspace: Workspace, server: "ServerConfig") -> tuple[list[str], list[BeyondReach]]:
    """Remove every collection of the shop but those that are live; which went, and which an experiment shows."""
    from molar_indexes.server.client import connected
    from molar_indexes.server.collections import prune, published

    with connected(server) as connection:
        gone = prune(connection, 0, shown(workspace))
        left = [one.name for alias in server.aliases for one in published(connection, alias) if not one.live]
    return gone, [BeyondReach("collection", name) for name in left]


def learnt(workspace: Workspace) -> list[BeyondReach]:
    """Encoders that were fine-tuned on histories: what they learnt of somebody cannot be seen in weights."""
    found = dict[str, int]()
    for folder in _encoders(workspace):
        account = head.read_account(folder)
        if account.get("interactions"):
            found[str(folder)] = int(account["interactions"])
    return [BeyondReach("weights", name, count) for name, count in found.items()]


def elsewhere(workspace: Workspace) -> list[Path]:
    """Folders of evaluations that were written outside the workspace and are still there."""
    try:
        told = json.loads((workspace.root / "evaluation/elsewhere.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(one) for one in told if isinstance(one, str) and Path(one).is_dir()]


def fingerprints(workspace: Workspace) -> dict[str, str]:
    """Those of what is live and made of people's interactions, by kind."""
    found = {}
    for kind in _OF_PEOPLE:
        with suppress(MolarError):
            if (manifest := workspace[kind].manifest) is not None:
                found[kind] = manifest.fingerprint
    return found


def _former(workspace: Workspace) -> Sequence[KeptCopy]:
    return [one for one in retained_copies(workspace) if one.what == "generation"]


def _encoders(workspace: Workspace) -> Iterator[Path]:
    with suppress(MolarError):
        if (content := workspace["content"].manifest) is not None:
            named = Path(str((content.settings.get("embed") or {}).get("model", "")))
            if named.name and named.is_dir():
                yield named.resolve()
    own = workspace.root / "finetuned"
    if own.is_dir():
        yield own.resolve()
