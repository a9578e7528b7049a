"""molar from a program or a notebook: everything that the command `molar` does.

import molar

shop = molar.Shop.from_tables(items, interactions, images="images/")
shop.check()
shop.embed()
shop.align(preset="fast")
shop.query("u1", k=10, where="price < 40", explain=True)
"""

from typing import TYPE_CHECKING, Any

from molar.initial import Initial, init
from molar.shop import Shop, restore
from molar.shop import open_shop as open
from molar.sources import demo, import_dataset
from molar_retrieval import __version__
from molar_retrieval.errors import MolarError
from molar_retrieval.frames import Frame

if TYPE_CHECKING:
    from molar_retrieval.models.protocol import FitData, Histories, IndexableModel, Model
    from molar_retrieval.workspace.settings import MolarSettings as Settings

__all__ = [
    "FitData",
    "Frame",
    "Histories",
    "IndexableModel",
    "Initial",
    "Model",
    "MolarError",
    "Settings",
    "Shop",
    "__version__",
    "demo",
    "import_dataset",
    "init",
    "open",
    "restore",
]


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: a query does without ``Settings``, and saves 70 ms."""
    if name == "Settings":
        from molar_retrieval.workspace.settings import MolarSettings

        return MolarSettings
    if name in ("FitData", "Histories", "IndexableModel", "Model"):
        from molar_retrieval.models import protocol

        return getattr(protocol, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
