"""molar from a program or a notebook: everything that the command `molar` does.

import molar

shop = molar.Shop.from_tables(items, interactions, images="images/")
shop.check()
shop.embed()
shop.align(preset="fast")
shop.query("u1", k=10, where="price < 40", explain=True)
"""

from molar.shop import Shop
from molar.shop import open_shop as open
from molar.sources import demo, import_dataset
from molar_retrieval import __version__
from molar_retrieval.config import MolarSettings as Settings
from molar_retrieval.errors import MolarError
from molar_retrieval.frame import Frame

__all__ = ["Frame", "MolarError", "Settings", "Shop", "__version__", "demo", "import_dataset", "open"]
