"""Somebody of whom only a session is known: the user encoder reads it, which takes torch."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from molar_indexes.encoder import carried
from molar_indexes.generations import Generation
from molar_indexes.users import UserRecord
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from molar_retrieval.alignment.model import AlignedModel


class SessionReader:
    """Encodes sessions for one generation; the first one loads the encoder.

    A generation published before they carried their own alignment is read with that of the workspace.
    """

    def __init__(self, workspace: Workspace, generation: Generation) -> None:
        self._workspace, self._generation = workspace, generation

    def __call__(self, rows: Sequence[int]) -> UserRecord:
        """Who looked at these items, oldest first; StaleArtefactError if no alignment belongs to the generation."""
        import numpy as np

        from molar_indexes.sparse import sparse_rows
        from molar_retrieval.alignment.model import session_log

        vectors = self._model.users(session_log(rows, len(self._generation.index)), np.zeros(1, np.int64))
        (sparse,) = sparse_rows(vectors.sparse)
        return UserRecord("", vectors.dense[0].tolist(), rows, sparse)

    @cached_property
    def _model(self) -> "AlignedModel":
        from molar_retrieval.alignment.store import open_model

        own = carried(self._generation.folder)
        if own is not None:
            return open_model(own)
        folder, manifest = self._workspace["alignment"].require()
        wanted = self._generation.manifest.inputs["alignment"]
        if manifest.fingerprint != wanted:
            raise StaleArtefactError(
                f"generation {self._generation.name} was made with the alignment {wanted[:16]},"
                f" the workspace now has {manifest.fingerprint[:16]}",
                "run `molar align` to publish a generation that fits",
            )
        return open_model(folder)
