"""A shop for somebody's own device, which then asks nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molar.asking import Asking

if TYPE_CHECKING:
    from molar_indexes.device.export import DeviceExport


class Exporting(Asking):
    """What leaves the workspace to answer elsewhere."""

    def export_device(
        self,
        out: str | Path = "device",
        *,
        fields: Sequence[str] = (),
        photos: bool = False,
        rerank: bool = True,
        generation: str | None = None,
        rules: str | Path | None = None,
    ) -> "DeviceExport":
        """Write a folder with the whole index and a page that answers in a browser, so that no history leaves it.

        Items, rules and what may be shown are as they are now; nothing of any user is in it. It is for shops of up to
        20,000 items, and needs the extra ``device``.

        Args:
            out: The folder, new or exported before.
            fields: Attributes of the items to show beside their titles.
            photos: Whether small copies of the photos go with it.
            rerank: Whether the second stage goes with it, and what it reads: a third of a folder without photos.
            generation: Name of a generation; None: the live one.
            rules: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.

        Raises:
            DataError: If the shop is too large, the folder holds something else or cannot be written.
            MissingArtefactError: If nothing was published yet.
            BackendError: If the extra is not installed.
            RequestError: If there is no such field.
            SettingsError: If the rules are wrong.
        """
        from molar_indexes.device.export import export_device

        with self.recommender(generation=generation, rules=rules) as recommender, self.progress() as progress:
            return export_device(recommender, Path(out), fields=fields, photos=photos, rerank=rerank, progress=progress)
