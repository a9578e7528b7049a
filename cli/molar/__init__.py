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
from molar_retrieval.ranking.query import Query

if TYPE_CHECKING:
    from molar import metrics, splits
    from molar.dataset import Dataset
    from molar.evaluation import evaluate
    from molar.splits import Fold, Split
    from molar_eval.evaluation import Evaluation
    from molar_retrieval.models.protocol import FitData, Histories, IndexableModel, Model
    from molar_retrieval.workspace.settings import MolarSettings as Settings

__all__ = [
    "Dataset",
    "Evaluation",
    "FitData",
    "Fold",
    "Frame",
    "Histories",
    "IndexableModel",
    "Initial",
    "Model",
    "MolarError",
    "Query",
    "Settings",
    "Shop",
    "Split",
    "__version__",
    "demo",
    "evaluate",
    "import_dataset",
    "init",
    "metrics",
    "open",
    "restore",
    "splits",
]
_LATER = {
    "Dataset": "molar.dataset",
    "Evaluation": "molar_eval.evaluation",
    "FitData": "molar_retrieval.models.protocol",
    "Fold": "molar.splits",
    "Histories": "molar_retrieval.models.protocol",
    "IndexableModel": "molar_retrieval.models.protocol",
    "Model": "molar_retrieval.models.protocol",
    "Split": "molar.splits",
    "evaluate": "molar.evaluation",
}
"""What is imported when it is asked for, and where from: a query does without, and starts sooner."""


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: a query does without ``Settings``, and saves 70 ms."""
    from importlib import import_module

    if name == "Settings":
        return import_module("molar_retrieval.workspace.settings").MolarSettings
    if name in ("metrics", "splits"):
        return import_module(f"molar.{name}")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
