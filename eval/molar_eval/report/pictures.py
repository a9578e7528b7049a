"""Photos of a catalogue as small data URIs, so that the page needs no other file."""

import base64
import io
from pathlib import Path

from molar_retrieval.catalog.images import ImageError, open_image

SIZE = (112, 150)
_QUALITY = 72


class Pictures:
    """Small versions of a catalogue's photos, each made once.

    Args:
        catalogue: The catalogue's folder.
    """

    def __init__(self, catalogue: Path) -> None:
        self._folder = catalogue
        self._made: dict[str, str | None] = {}

    def uri(self, photo: str | None) -> str | None:
        """A JPEG as a data URI; None where there is no photo, or none that can be read."""
        if photo is None:
            return None
        if photo not in self._made:
            self._made[photo] = self._make(photo)
        return self._made[photo]

    def _make(self, photo: str) -> str | None:
        try:
            image = open_image(self._folder, photo)
        except ImageError:
            return None
        image.thumbnail(SIZE)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
