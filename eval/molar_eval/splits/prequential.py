"""Prequential split: window by window through time, each one asked before anything in it is learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from molar_eval.cases import Cases, Mask, Rows
from molar_eval.splits.base import DAY, Split, is_first, single_cases
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError

Window = Literal["auto", "day", "week"]
_DAYS = {"day": 1, "week": 7}
_MONDAY = 3
"""Days from the Monday before 1 January 1970 to that day."""


@dataclass(frozen=True)
class WindowStep:
    """A window of time, from ``begin`` up to ``end`` in seconds since 1970 (UTC), and its cases, as a range."""

    begin: int
    end: int
    cases: slice


@dataclass(frozen=True, eq=False)
class Walk:
    """Windows in the order of time; the ``split`` has the cases of all of them, and fits what lies before ``start``.

    ``start`` is one window before the first step, so that each step has something to learn since the one before.
    """

    split: Split
    start: int
    window: str
    steps: Sequence[WindowStep]

    @property
    def cases(self) -> Cases:
        """The cases of all steps, in their order."""
        return next(iter(self.split.tests.values()))

    def past(self, moment: int) -> Interactions:
        """All that was known at a moment, in seconds: the interactions before it."""
        log = self.split.history
        return log.select(log.timestamp < moment)

    def cases_of(self, step: WindowStep) -> Cases:
        """The cases of one step."""
        chosen = np.zeros(len(self.cases), bool)
        chosen[step.cases] = True
        return self.cases.select(chosen)


def prequential(log: Interactions, *, steps: int = 30, window: Window = "auto", least: int = 20) -> Walk:
    """Test then train (Dawid 1984, doi:10.2307/2981683), over days or weeks of UTC, weeks from Monday on.

    A case is what one user took in one window and had not had before it: all these items are its targets, what the user
    did before the window its input. Users without anything before their window cannot be asked and are counted in the
    facts. The steps are the last windows with at least ``least`` cases, all behind the first third of the
    interactions; others are learned from but not asked. ``auto`` takes days where there are enough of them, else weeks.

    Raises:
        SettingsError: If an argument means nothing.
        DataError: If the log has too few such windows.
    """
    if window not in get_args(Window):
        raise SettingsError(f"window = {window!r} means nothing", f"use {', '.join(get_args(Window))}")
    if steps < 1 or least < 1:
        raise SettingsError(f"steps = {steps}, least = {least}: nothing would be asked", "give numbers from 1 on")
    found = 0
    for name in _DAYS if window == "auto" else (window,):
        asked = _Windows.of(log, _DAYS[name])
        chosen = asked.enough(least)
        if len(chosen) >= steps:
            return _walk(asked, chosen[-steps:], name, {"steps": steps, "window": window, "least": least})
        found = max(found, len(chosen))
    what = "days or weeks" if window == "auto" else f"{window}s"
    raise DataError(
        f"{steps} {what} with at least {least} cases are due behind the first third of the log, it has {found}",
        "bring a longer log, or lower steps or least in a suite of your own",
    )


@dataclass(frozen=True, eq=False)
class _Windows:
    """A log in windows of some days: the ``number`` of each interaction's, since 1970, and which rows are answers."""

    log: Interactions
    days: int
    number: Rows
    answers: Mask  # first interactions with their items, of users who did something in an earlier window

    @classmethod
    def of(cls, log: Interactions, days: int) -> "_Windows":
        shift = 0 if days == 1 else _MONDAY
        number: Rows = (log.timestamp // DAY + shift) // days
        first = np.zeros(log.n_users, np.int64)
        some = np.diff(log.offsets) > 0
        first[some] = number[log.offsets[:-1][some]]
        return cls(log, days, number, is_first(log) & (number > first[log.user]))

    def begin(self, number: int) -> int:
        """When a window begins, in seconds."""
        return (number * self.days - (0 if self.days == 1 else _MONDAY)) * DAY

    def enough(self, least: int) -> Rows:
        """Numbers of the windows with as many cases, ascending, of which the one before is late enough too."""
        pairs = np.unique(np.stack([self.number[self.answers], self.log.user[self.answers]]), axis=1)
        numbers, counts = np.unique(pairs[0], return_counts=True)
        third = np.quantile(self.log.timestamp, 1 / 3) if len(self.log) else 0
        later = np.array([self.begin(int(number) - 1) >= third for number in numbers], bool)
        found: Rows = numbers[(counts >= least) & later]
        return found


def _walk(windows: _Windows, chosen: Rows, name: str, settings: dict[str, object]) -> Walk:
    log, number = windows.log, windows.number
    rows = np.flatnonzero(windows.answers & np.isin(number, chosen))
    rows = rows[np.argsort(number[rows], kind="stable")]
    user = log.user[rows].astype(np.int64)
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (np.diff(number[rows]) != 0) | (np.diff(user) != 0)
    begins = np.flatnonzero(fresh)
    users, numbers = user[begins], number[rows][begins]
    least = int(number.min())
    key = log.user.astype(np.int64) * (int(number.max()) - least + 1) + (number - least)
    length = np.searchsorted(key, users * (int(number.max()) - least + 1) + (numbers - least)) - log.offsets[users]
    cases = Cases(log, users, length, np.append(begins, len(rows)), log.item[rows])
    borders = np.searchsorted(numbers, np.append(chosen, chosen[-1] + 1))
    steps = [
        WindowStep(windows.begin(int(n)), windows.begin(int(n) + 1), slice(int(a), int(b)))
        for n, a, b in zip(chosen, borders, borders[1:], strict=False)
    ]
    start = windows.begin(int(chosen[0]) - 1)
    inside = np.isin(number, chosen)
    cold = len(np.unique(np.stack([number[inside], log.user[inside]]), axis=1).T) - len(
        np.unique(np.stack([numbers, users]), axis=1).T
    )
    split = Split(
        name="prequential",
        settings=settings,
        history=log,
        fitted=log.timestamp < start,
        validation=single_cases(log, np.zeros(0, np.int64)),
        tests={f"new items by {name}": cases},
        facts={
            "t1": start,
            "window": name,
            "windows from the first to the last": int(chosen[-1] - chosen[0]) + 1,
            "users in a window without anything new, or anything before it": cold,
        },
    )
    return Walk(split, start, name, steps)
