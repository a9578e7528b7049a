"""Splits: who may see what. Each takes a log and returns a :class:`Split`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from molar_eval.splits.base import Split, Ties
from molar_eval.splits.cold import cold_items, cold_users
from molar_eval.splits.last import last_day, leave_one_out
from molar_eval.splits.temporal import temporal
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import SettingsError, nearest

SPLITS: dict[str, Callable[..., Split]] = {
    "leave-one-out": leave_one_out,
    "temporal": temporal,
    "cold items": cold_items,
    "cold users": cold_users,
    "last day": last_day,
}
"""By the name that a suite uses; keyword arguments are the suite's."""
PREQUENTIAL = "prequential"
"""What a suite calls a walk through time, which is many splits in one: :mod:`molar_eval.splits.prequential`."""


def make_split(name: str, log: Interactions, options: Mapping[str, Any]) -> Split:
    """Split a log as a suite says.

    Raises :class:`SettingsError` if there is no such split or option, :class:`DataError` if the log does not allow it.
    """
    if name not in SPLITS:
        close = nearest(name, [*SPLITS, PREQUENTIAL], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"splits are {', '.join((*SPLITS, PREQUENTIAL))}"
        raise SettingsError(f"there is no split {name!r}", hint)
    return SPLITS[name](log, **checked_options(SPLITS[name], name, options))


def checked_options(split: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a suite, if the split has them all; else :class:`SettingsError`."""
    known = [option for option in inspect.signature(split).parameters if option != "log"]
    for option in options:
        if option not in known:
            hint = f"its options are {', '.join(known)}" if known else "it has no options"
            raise SettingsError(f"the split {name!r} has no option {option!r}", hint)
    if (ties := options.get("ties", "file order")) not in get_args(Ties):
        raise SettingsError(f"ties = {ties!r} is no rule", f"use one of {', '.join(map(repr, get_args(Ties)))}")
    return options


__all__ = [
    "PREQUENTIAL",
    "SPLITS",
    "Split",
    "Ties",
    "checked_options",
    "cold_items",
    "cold_users",
    "last_day",
    "leave_one_out",
    "make_split",
    "temporal",
]
