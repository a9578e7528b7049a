"""Reading and ordering an interaction log."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molar_retrieval.interactions.holdout import Holdout as Holdout
    from molar_retrieval.interactions.holdout import holdout_last as holdout_last
    from molar_retrieval.interactions.log import InteractionLog as InteractionLog
    from molar_retrieval.interactions.log import to_csr as to_csr
    from molar_retrieval.interactions.prepare import is_current as is_current
    from molar_retrieval.interactions.prepare import prepare_interactions as prepare_interactions
    from molar_retrieval.interactions.write import read_validation as read_validation
    from molar_retrieval.interactions.write import write_log as write_log
else:
    # Loaded on demand: a command that only opens a log needs neither the readers nor SciPy.
    _HOMES = {
        "Holdout": "holdout",
        "InteractionLog": "log",
        "holdout_last": "holdout",
        "is_current": "prepare",
        "prepare_interactions": "prepare",
        "read_validation": "write",
        "to_csr": "log",
        "write_log": "write",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
