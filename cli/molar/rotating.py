"""Another key for the pseudonyms of a shop's people."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar.base import ShopBase, front_door
from molar_retrieval.workspace.artefacts import SWITCHING, Workspace

if TYPE_CHECKING:
    from molar_indexes.privacy.key_rotation import RotationReport


@front_door
@dataclass(frozen=True)
class Rotating:
    """Names people otherwise."""

    shop: ShopBase

    def rotate(self) -> "RotationReport":
        """Hash what all people are called with one key more, or the first one, wherever the workspace has it.

        Nothing is trained, and lists stay what they are. Where a rotation was interrupted, this ends it.

        Raises:
            DataError: If something answers from the workspace or writes there; or the keys cannot be read or written.
            SettingsError: If ``[privacy] key_file`` names no file, or one beside what it protects.
            DiskError: If there is no room to write everything that names people a second time.
            MissingArtefactError: If nothing was made yet.
            ServerError: If a server that has the people fails; the same again goes on there.
        """
        from molar_indexes.privacy.key_rotation import rotate

        place, folders, settings = Workspace(self.shop.workspace), [], self.shop.settings
        if not (place.root / SWITCHING).exists():
            place, folders = self.shop.opened(), [self.shop.folder()]
        with self.shop.progress() as progress:
            return rotate(place, settings.privacy, settings.index, *folders, progress=progress)
