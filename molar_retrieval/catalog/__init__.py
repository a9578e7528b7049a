"""Reading a catalogue: columns, photos, the text of an item."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molar_retrieval.catalog.catalogue import Catalogue as Catalogue
    from molar_retrieval.catalog.images import open_image as open_image
    from molar_retrieval.catalog.prepare import condition_of as condition_of
    from molar_retrieval.catalog.prepare import is_current as is_current
    from molar_retrieval.catalog.prepare import prepare_catalogue as prepare_catalogue
    from molar_retrieval.catalog.resolve import read_spec as read_spec
else:
    # Loaded on demand: a command that only opens a catalogue needs neither Pillow nor the readers.
    _HOMES = {
        "Catalogue": "catalogue",
        "is_current": "prepare",
        "open_image": "images",
        "condition_of": "prepare",
        "prepare_catalogue": "prepare",
        "read_spec": "resolve",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
