"""From a workspace, or a server, to what answers: one generation that stays, or the live one, which is followed."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from molar_indexes.answerer import Answerer
from molar_indexes.following import Following, Source
from molar_indexes.generations import KIND, OpenIndex, open_generation, open_own_index
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import file_stamp

if TYPE_CHECKING:
    from molar_indexes.server.config import ServerConfig


def answering(
    workspace: Workspace,
    generation: str | None,
    rules: Path | None,
    *,
    rules_needed: bool,
    follow: bool,
    server: "ServerConfig | None",
    trust: bool,
    indexed: OpenIndex = open_own_index,
) -> Following:
    """Open what answers, see :meth:`molar_indexes.recommender.Recommender.open`; the file of rules may not be there.

    Where there is no server, ``indexed`` opens the index.
    """

    def answerer() -> Answerer:
        if server is None:
            opened = open_generation(workspace, generation, indexed=indexed)
        else:
            from molar_indexes.server.opening import open_served  # brings qdrant-client

            opened = open_served(workspace, server, generation)
        return Answerer(workspace, opened, rules, rules_needed=rules_needed, trust=trust)

    if not follow or generation is not None:
        return Following(answerer())
    return Following.of(Source(answerer, partial(file_stamp, workspace[KIND].root / "current")))
