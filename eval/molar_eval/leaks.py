"""Checks that nothing from a test reaches a fit."""

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Rows
from molar_eval.metrics.per_list import blocks
from molar_eval.splits import Split
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError


def check(split: Split) -> None:
    """Refuse a split whose answers can be read off what models are fitted on, or off a case's own input.

    Raises :class:`DataError`.
    """
    training = np.unique(_pairs(split.training, split.training.user, split.training.item))
    again = bool(split.settings.get("repeats"))
    for name, cases in {"validation": split.validation, **split.tests}.items():
        known = _in_own_input(cases)
        if known.any() and not again:
            raise _leak(split, f"{int(known.sum()):,} answers of {name!r} are in the inputs of their own cases")
        wanted = _pairs(cases.history, cases.user[cases.case_of_target], cases.targets)
        if leaked := int(np.isin(wanted[~known], training).sum()):
            raise _leak(split, f"{leaked:,} answers of {name!r} are among the training interactions")
    t1 = split.facts.get("t1")
    if t1 is not None and len(split.training) and int(split.training.timestamp.max()) >= t1:
        raise _leak(split, "training interactions lie after the cut")


def _in_own_input(cases: Cases) -> Mask:
    """Whether the user had each target before its case, shape (T,)."""
    found = [np.zeros(0, bool)]
    for chosen in blocks(len(cases)):
        seen = cases.seen(chosen)
        low, high = cases.offsets[chosen.start], cases.offsets[chosen.stop]
        own = cases.case_of_target[low:high] - chosen.start
        found.append(np.isin(_pairs(seen, own, cases.targets[low:high]), _pairs(seen, seen.user, seen.item)))
    return np.concatenate(found)


def _pairs(log: Interactions, user: npt.NDArray[np.integer], item: npt.NDArray[np.integer]) -> Rows:
    pairs: Rows = user.astype(np.int64) * log.n_items + item
    return pairs


def _leak(split: Split, what: str) -> DataError:
    return DataError(f"the split {split.name!r} leaks: {what}", "report this with the log's first lines; do not use it")
