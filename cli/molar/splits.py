"""Splits of a data set into training, validation and test, for :func:`molar.evaluate`.

A split of one's own is anything with a ``name`` and ``split(data)`` that yields folds, see :meth:`Fold.of_masks`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from molar.dataset import Dataset
    from molar_eval import splits
    from molar_eval.cases import Cases
    from molar_retrieval.data.interactions import Interactions

__all__ = ["ColdItems", "ColdUsers", "Fold", "LastDay", "LeaveOneOut", "Rolling", "Split", "Temporal"]
Ties = Literal["file order", "item id"]


@dataclass(frozen=True, eq=False)
class Fold:
    """One way of holding interactions back.

    Attributes:
        train: The interactions that models are fitted on.
        validation: Cases that choose settings.
        test: Cases that models are judged by.
        name: Which test of the split it is.
        warning: Why figures may flatter; None: nothing is known.
    """

    train: "Interactions"
    validation: "Cases"
    test: "Cases"
    name: str = "test"
    warning: str | None = None

    @classmethod
    def of_masks(
        cls, data: "Dataset", *, test: npt.NDArray[np.bool_], validation: npt.NDArray[np.bool_] | None = None
    ) -> Self:
        """Hold out the interactions of masks, in the order of ``data.interactions``, shape (n_interactions,).

        Each one is a case: its item is to be found by what the user did before it. All others are fitted on.

        Args:
            data: The data set.
            test: Interactions that models are judged by.
            validation: Interactions that choose settings; None: none, models keep their first setting.

        Raises:
            SettingsError: If a mask has another length, or both have an interaction.
        """
        from molar_eval.splits import single_cases
        from molar_retrieval.errors import SettingsError

        chosen, shape = np.asarray(test, bool), (len(data.log),)
        held = np.zeros(shape, bool) if validation is None else np.asarray(validation, bool)
        if chosen.shape != shape or held.shape != shape:
            raise SettingsError(
                f"the masks have shapes {chosen.shape} and {held.shape}, and there are {len(data.log)} interactions",
                "mark each interaction, in the order of data.interactions",
            )
        if (chosen & held).any():
            raise SettingsError("an interaction is in the test and in validation", "hold it out for one of them")
        asked, tested = (single_cases(data.log, np.flatnonzero(mask)) for mask in (held, chosen))
        return cls(data.log.select(~(chosen | held)), asked, tested)


class Split(Protocol):
    """A way of splitting a data set."""

    @property
    def name(self) -> str:
        """As tables call it."""

    def split(self, data: "Dataset") -> Iterator[Fold]:
        """The folds, one per test."""


class _BuiltIn:
    """A split of molar's own, by its name in suites."""

    _name: str

    @property
    def name(self) -> str:
        """As tables call it."""
        return self._name

    def split(self, data: "Dataset") -> Iterator[Fold]:
        """The folds, one per test.

        Raises:
            DataError: If the data set is too small, or has no times where the split needs them.
        """
        found = self._of(data)
        training = found.training  # the same one for all tests, so that models are fitted once
        for name, cases in found.tests.items():
            yield Fold(training, found.validation, cases, name, found.warning)

    def _of(self, data: "Dataset") -> "splits.Split":
        from molar_eval.splits import make_split

        return make_split(self._name, data.log, self._options(data))

    def _options(self, data: "Dataset") -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class LeaveOneOut(_BuiltIn):
    """The last interaction of each user with three or more is the test, the one before it validates.

    The protocol of most papers. It lets training see what other users did after a test case.

    Attributes:
        ties: The order of a user's interactions with equal times: that of the file, or of the items' ids.
    """

    ties: Ties = "file order"
    _name = "leave-one-out"


@dataclass(frozen=True)
class Temporal(_BuiltIn):
    """One cut in time for everybody, as a shop that decides today has it: fit before, test after.

    Two tests: the first new item of each user after the cut, and all their new items as a set.

    Attributes:
        test: How much time the test takes, such as ``"7d"``, ``"12h"`` or a share of the interactions, 0 to 1.
        validation: The same of the time before it, whose cases choose settings.
    """

    test: str | float = 0.1
    validation: str | float = 0.1
    _name = "temporal"

    def _options(self, data: "Dataset") -> dict[str, Any]:
        test = _share(data, self.test, 1.0)
        validation = _share(data, self.validation, 1.0 - test)
        return {"train": 1.0 - test - validation, "validation": validation}


@dataclass(frozen=True)
class LastDay(_BuiltIn):
    """The last day with interactions of each user is the test, the one before validates; for logs that know only days.

    Days are those of UTC.
    """

    _name = "last day"


@dataclass(frozen=True)
class ColdItems(_BuiltIn):
    """A random share of the items is removed from training; the tests ask for them, for the others, and for both.

    Attributes:
        share: Of the items with interactions, 0 to 1.
        seed: Of the draw.
    """

    share: float = 0.1
    seed: int = 0
    _name = "cold items"


@dataclass(frozen=True)
class ColdUsers(_BuiltIn):
    """A random share of the users is kept from training; they show their first interactions, the next is asked for.

    Attributes:
        share: Of the users with enough interactions, 0 to 1.
        shown: How many interactions they show.
        seed: Of the draw.
    """

    share: float = 0.1
    shown: int = 3
    seed: int = 0
    _name = "cold users"


@dataclass(frozen=True)
class Rolling(_BuiltIn):
    """Test then train, window by window: the new items of each user and window, asked by what came before the window.

    Models are fitted once, before the first window; they see later histories when they are asked.

    Attributes:
        steps: How many windows.
        window: ``day`` or ``week`` (from Monday, UTC), or ``auto``: days where there are enough of them.
    """

    steps: int = 30
    window: Literal["auto", "day", "week"] = "auto"
    _name = "prequential"

    def _of(self, data: "Dataset") -> "splits.Split":
        from molar_eval.splits import prequential

        return prequential(data.log, steps=self.steps, window=self.window).split


def _share(data: "Dataset", length: str | float, until: float) -> float:
    """The share of interactions in a stretch of time that ends at the quantile ``until``."""
    from molar_retrieval.errors import DataError, SettingsError, shown

    if isinstance(length, int | float):
        if not 0 < length < 1:
            raise SettingsError(f"{length} is no share", "give a number between 0 and 1, or a time such as '7d'")
        return float(length)
    number, unit = length[:-1], {"d": timedelta(days=1), "h": timedelta(hours=1)}.get(length[-1:])
    if unit is None or not number.isdecimal():
        raise SettingsError(f"{shown(length)} is no length of time", "write days or hours: '7d', '12h'")
    times = np.sort(data.log.timestamp)
    if not len(times):
        raise DataError("the data set has no interactions", "bring some")
    end = times[min(len(times) - 1, int(until * len(times)))]
    inside = (times >= end - int(number) * unit.total_seconds()) & (times < end if until < 1 else times <= end)
    if not inside.any():
        raise DataError(f"the data set has no interactions in the {length} before the cut", "take a longer time")
    return float(np.count_nonzero(inside) / len(times))
