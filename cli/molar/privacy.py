"""What a shop keeps of one person."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molar.base import ShopBase
from molar_retrieval.errors import MissingArtefactError, RequestError

if TYPE_CHECKING:
    from molar_indexes.privacy.known import KnownPerson
    from molar_retrieval.privacy.found import FileFindings
    from molar_retrieval.privacy.scan import ScanReport

_PATIENT = 60.0
"""Seconds that a server may take to look through a collection without an index."""


@dataclass(frozen=True)
class Privacy:
    """Where a person lies, and what is stored on them."""

    shop: ShopBase

    def scan(self, user_id: str, *, also: Sequence[str | Path] = ()) -> "ScanReport":
        """Look for a person in every file of the workspace and of the catalogue's folder, and on the server.

        Looked for are the id, its keys, sessions that are known to be theirs, point ids, stretches of their history
        that nobody else has, and of their vectors, as far as the workspace still knows these. Nothing is written.

        Args:
            user_id: Who.
            also: More files and folders: pages, lists and exports that lie elsewhere.

        Raises:
            RequestError: If the id is empty, or a file of ``also`` is not there.
            MissingArtefactError: If nothing was made yet.
            BackendError: If the settings name a server that cannot be asked.
        """
        from molar_indexes.privacy.known import needles_of
        from molar_retrieval.privacy.scan import ScanReport, scan

        if not user_id:
            raise RequestError("the id is empty", "name a person, or - to read the id from standard input")
        more = [Path(one) for one in also]
        for one in more:
            if not one.exists():
                raise RequestError(f"there is no {one}", "name files and folders that exist")
        workspace = self.shop.opened()
        needles, known = needles_of(workspace, user_id)
        notes = list(known.notes)
        folders = [workspace.root, *self._catalogue(notes), *more]
        with self.shop.progress() as progress:
            files = scan(folders, needles, progress)
        looked_for = {"names": len(needles.names)} | needles.windows.counts
        if needles.sequences:
            looked_for["their history, as item ids"] = len(needles.sequences)
        notes.append("backups, snapshots of disks, logs of web servers and systems outside molar are not looked into")
        return ScanReport(files, looked_for, notes, self._server(known))

    def _catalogue(self, notes: list[str]) -> list[Path]:
        try:
            folder = self.shop.folder()
        except MissingArtefactError:
            folder = None
        if folder is not None and folder.is_dir():
            return [folder]
        notes.append("the catalogue's folder is not known, or not there: it was not looked into")
        return []

    def _server(self, known: "KnownPerson") -> "list[FileFindings]":
        from molar_indexes.server.config import ServerConfig

        server = ServerConfig.of(self.shop.settings.index)
        if server is None:
            return []
        from molar_indexes.privacy.server import scan_server
        from molar_indexes.server.connect import connected

        with connected(server.patient(_PATIENT)) as connection:
            return scan_server(connection, known)
