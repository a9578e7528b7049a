"""A generation on a server for as long as it is measured."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from molar_indexes.generations import Generation
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import connected
from molar_indexes.server.opening import open_served
from molar_indexes.server.published import remove
from molar_indexes.server.push import REQUEST_SECONDS, push
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings


@contextmanager
def on_trial(workspace: Workspace, settings: IndexSettings, progress: Progress = SILENT) -> Iterator[Generation]:
    """Push a workspace's live generation under a name of its own, open it there, and remove it in the end.

    Its users stay in the workspace, and nothing but the server answers. Whoever takes the generation closes it.
    """
    name = f"{settings.collection}.trial.{uuid.uuid4().hex[:8]}"
    own = settings.model_copy(update={"collection": name, "users": "local", "fallback": "none"})
    server = ServerConfig.of(own)
    if server is None:
        raise ValueError("the settings name no server")
    try:
        push(workspace, own, progress=progress)
        yield open_served(workspace, server)
    finally:
        with connected(server.patient(REQUEST_SECONDS)) as connection:
            remove(connection)
