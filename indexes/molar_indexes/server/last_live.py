"""Which generation is live on a server, as the last push or rollback from this workspace left it.

Where the server does not answer nobody else can say so, and the workspace's own live generation may be another one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from molar_indexes.generations import KIND
from molar_indexes.server.config import ServerConfig
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import write_atomically

_FOLDER = "push"


@dataclass(frozen=True)
class LastLive:
    """A ``generation`` of the workspace, or None, and in words why it is the one to answer instead of a server."""

    generation: str | None
    why: str


def remember(workspace: Workspace, server: ServerConfig, generation: str) -> None:
    """Keep that a generation is live on a server now."""
    path = _path(workspace, server)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"url": server.url, "generation": generation}))


def last_live(workspace: Workspace, server: ServerConfig) -> LastLive:
    """What is to answer instead of a server: the generation that is live there, if the workspace has it."""
    store, there = workspace[KIND], _there(workspace, server)
    own = None if store.current is None else store.current.name
    if there is None:
        return LastLive(None, f"its live one, {own}, as it does not know what is live there")
    if there == own:
        return LastLive(there, f"{there}, which is live on both")
    if (store.root / there).is_dir():
        return LastLive(there, f"{there}, which is live there, while here it is {own}")
    return LastLive(None, f"its live one, {own}, as it no longer has {there}, which is live there")


def _there(workspace: Workspace, server: ServerConfig) -> str | None:
    """What was kept of a server, which may be named by other addresses of the same cluster now."""
    try:
        kept = json.loads(_path(workspace, server).read_text("utf-8"))
        same = set(kept["url"].split(",")) & {node.url for node in server.nodes}
        named = str(kept["generation"])
        return named if same and Path(named).name == named else None  # the plain name of a generation
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(workspace: Workspace, server: ServerConfig) -> Path:
    return workspace.root / _FOLDER / f"{server.collection}.json"
