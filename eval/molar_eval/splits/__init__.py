"""Splits: who may see what. Each takes a log and returns a :class:`Split`."""

from collections.abc import Callable

from molar_eval.splits.base import Split, Ties
from molar_eval.splits.cold_items import cold_items
from molar_eval.splits.cold_users import cold_users
from molar_eval.splits.last_day import last_day
from molar_eval.splits.leave_one_out import leave_one_out
from molar_eval.splits.temporal import temporal

SPLITS: dict[str, Callable[..., Split]] = {
    "leave-one-out": leave_one_out,
    "temporal": temporal,
    "cold items": cold_items,
    "cold users": cold_users,
    "last day": last_day,
}
"""By the name that a suite uses; keyword arguments are the suite's."""

__all__ = ["SPLITS", "Split", "Ties", "cold_items", "cold_users", "last_day", "leave_one_out", "temporal"]
