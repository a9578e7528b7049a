"""Where a shop lies: its catalogue, its workspace, its settings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar.choosing import settings_of
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from molar_retrieval.config import MolarSettings
    from molar_retrieval.progress import Progress

Display = Callable[[], AbstractContextManager["Progress"]]


@dataclass(frozen=True)
class ShopBase:
    """What all that is done for a shop starts from; :class:`molar.Shop` says what the fields are."""

    catalogue: Path | None
    workspace: Path
    settings_file: Path | None = None
    display: Display | None = None

    def __post_init__(self) -> None:
        if self.catalogue is not None and self.catalogue.is_file():
            from molar_retrieval.catalog.sources import folder_of

            object.__setattr__(self, "catalogue", folder_of(self.catalogue))

    @property
    def settings(self) -> "MolarSettings":
        """The settings of ``molar.toml`` and the environment."""
        return self._settings()

    def opened(self) -> Workspace:
        """The workspace; raises :class:`MissingArtefactError` if nothing was made yet."""
        return Workspace.open(self.workspace)

    def folder(self) -> Path:
        """The catalogue's folder; raises :class:`MissingArtefactError` if none was named and nothing made yet."""
        return self.catalogue or self.opened().catalogue

    @contextmanager
    def bound(self, *, dry: bool = False) -> Iterator[Workspace]:
        """The workspace of the catalogue, made where it does not exist.

        Args:
            dry: Whether it forgets what is written.

        Raises:
            DataError: If there is no catalogue, or the workspace serves another one.
        """
        from molar_retrieval.catalog.resolve import items_source

        folder = self.folder()
        items_source(folder)
        if not dry:
            yield Workspace.for_catalogue(self.workspace, folder)
            return
        from molar_retrieval.scratch import scratch_workspace

        with scratch_workspace(self.workspace, folder) as place:
            yield place

    def progress(self) -> AbstractContextManager["Progress"]:
        """The display of a long step."""
        return shown_by(self.display)

    def _settings(self, *, trust: bool = False, index: str | None = None, **sections: Any) -> "MolarSettings":
        return settings_of(self.workspace, self.settings_file, trust=trust, index=index, **sections)


def shown_by(display: Display | None) -> AbstractContextManager["Progress"]:
    """The display of a long step; None: the one that suits where the program runs."""
    if display is not None:
        return display()
    from molar import progress

    return progress.display()
