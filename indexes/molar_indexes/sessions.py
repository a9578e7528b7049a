"""Somebody of whom only a history is known: the user encoder reads it."""

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from molar_indexes.generations import Generation, carried
from molar_indexes.users import UserRecord
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_retrieval.models.towers.inference import UserEncoder


class SessionReader:
    """Encodes sessions for one generation; the first one opens the encoder.

    A generation published before they carried their own alignment is read with that of the workspace.
    """

    def __init__(self, workspace: Workspace, generation: Generation) -> None:
        self._workspace, self._generation = workspace, generation

    def __call__(self, rows: Sequence[int], times: Sequence[int] | None = None) -> UserRecord:
        """Who took these items, oldest first, at these seconds since 1970; None: at one moment.

        StaleArtefactError if no alignment belongs to the generation, or it is damaged.
        """
        times = [0] * len(rows) if times is None else times
        vector, (indices, values) = self.encoder.encode(rows, times)
        own = SparseVector(array("i", indices), array("f", values))
        return UserRecord("", array("f", vector.tobytes()), array("i", rows), own, times=array("q", times))

    @cached_property
    def encoder(self) -> "UserEncoder":
        """From histories to vectors of this generation."""
        from molar_retrieval.models.towers.inference import UserEncoder  # brings NumPy

        own = carried(self._generation.folder)
        if own is not None:
            return UserEncoder.open(own)
        folder, manifest = self._workspace["alignment"].require()
        wanted = self._generation.manifest.inputs["alignment"]
        if manifest.fingerprint != wanted:
            raise StaleArtefactError(
                f"generation {self._generation.name} was made with the alignment {wanted[:16]},"
                f" the workspace now has {manifest.fingerprint[:16]}",
                "run `molar align` to publish a generation that fits",
            )
        return UserEncoder.open(folder)
