"""The baselines by name."""

from collections.abc import Callable

from molar_eval.models.als import ALS
from molar_eval.models.base import Model
from molar_eval.models.bpr import BPR
from molar_eval.models.content import ContentKNN
from molar_eval.models.cooccurrence import OrderedCooccurrence
from molar_eval.models.ease import EASE
from molar_eval.models.neighbours import ItemKNN
from molar_eval.models.popularity import Popularity, RecentPopularity
from molar_eval.models.sasrec import SASRec


def baselines() -> dict[str, Callable[[], Model]]:
    """Makes a baseline with its standard grid of settings, by the name that tables and suites use."""
    return {
        "popularity": Popularity,
        "recent popularity": RecentPopularity,
        "item-kNN": ItemKNN,
        "co-occurrence": OrderedCooccurrence,
        "ALS": ALS,
        "BPR": BPR,
        "EASE": EASE,
        "content kNN": ContentKNN,
        "SASRec": SASRec,
    }
