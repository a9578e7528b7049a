"""Splits: who may see what, and the check that nothing leaks. Each takes a log and returns a :class:`Split`."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.cases import Cases, Mask, Rows
from molar_eval.metrics import blocks
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError, nearest
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically

Ties = Literal["file order", "item id"]
DAY = 86_400
FILE_ORDER: Ties = "file order"


@dataclass(frozen=True, eq=False)
class Split:
    """One way of holding interactions back.

    ``history`` has all interactions in the order that the split goes by, ``fitted`` says on which of them everything is
    fitted, shape (n,). Targets of ``validation``, which chooses settings, are not fitted on. ``tests`` are looked at
    once; the first is the one that counts. ``warning`` says why results may flatter.
    """

    name: str
    settings: Mapping[str, Any]
    history: Interactions
    fitted: Mask
    validation: Cases
    tests: Mapping[str, Cases]
    warning: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Changes with every interaction, case and target, whatever people are called."""
        log = self.history
        arrays: list[npt.NDArray[Any]] = [log.offsets, log.item, log.timestamp, self.fitted]
        for name, cases in [("validation", self.validation), *self.tests.items()]:
            arrays += [np.frombuffer(name.encode(), np.uint8), cases.user, cases.length, cases.offsets, cases.targets]
            arrays += [mask for mask in (cases.readable, cases.ranked) if mask is not None]
        content = fingerprint.of_bytes(np.ascontiguousarray(one).tobytes() for one in arrays)
        return fingerprint.of_json([self.name, dict(self.settings), content, log.n_users, log.items.digest])

    def save(self, folder: Path) -> Path:
        """Write the split as Parquet with ids, so that other tools can be asked the same; returns its folder.

        ``history.parquet`` holds all interactions in order (user_id, item_id, timestamp, training: whether models are
        fitted on it). ``validation.parquet`` and ``test-NAME.parquet`` have one row per case: user_id, input_length
        (how many of the user's first interactions are the input) and target_item_ids. ``split.json`` says the rest,
        with the items that inputs leave out, and by test those that are ranked where not all are. Nothing is written
        where it is there already, with people of these names.
        """
        name, people = self.fingerprint, self.history.users.digest
        folder = folder / f"{self.name.replace(' ', '-')}-{name[:16]}"
        written = folder / "split.json"
        if written.exists() and json.loads(written.read_text("utf-8")).get("people") == people:
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        log = self.history
        history = {
            "user_id": log.users.array.take(pa.array(log.user)),
            "item_id": log.items.array.take(pa.array(log.item)),
            "timestamp": pa.array(log.timestamp),
            "training": pa.array(self.fitted),
        }
        pq.write_table(pa.table(history), folder / "history.parquet", compression="zstd")
        for test, cases in [("validation", self.validation), *((f"test-{n}", c) for n, c in self.tests.items())]:
            pq.write_table(_table(cases), folder / f"{test.replace(' ', '-')}.parquet", compression="zstd")
        readable = self.validation.readable
        hidden = np.zeros(0, np.int64) if readable is None else np.flatnonzero(~readable)
        record = {
            "name": self.name,
            "fingerprint": name,
            "people": people,
            "settings": dict(self.settings),
            "warning": self.warning,
            "facts": dict(self.facts),
            "items_left_out_of_inputs": log.items.ids(hidden),
            "ranked_alone": {
                test: log.items.ids(np.flatnonzero(cases.ranked))
                for test, cases in self.tests.items()
                if cases.ranked is not None
            },
        }
        for_owner(folder)
        write_atomically(written, json.dumps(record, indent=1, ensure_ascii=False))
        return folder

    @property
    def training(self) -> Interactions:
        """What everything is fitted on."""
        return self.history.select(self.fitted)


def _table(cases: Cases) -> pa.Table:
    items = cases.history.items.array.take(pa.array(cases.targets)).cast(pa.string())
    return pa.table(
        {
            "user_id": cases.history.users.array.take(pa.array(cases.user)),
            "input_length": pa.array(cases.length),
            "target_item_ids": pa.ListArray.from_arrays(pa.array(cases.offsets.astype(np.int32)), items),
        }
    )


def with_ties(log: Interactions, ties: Ties) -> Interactions:
    """The log with a stated order among a user's interactions of the same second.

    ``file order`` keeps the order of the file, which the prepared log has. ``item id`` sorts such interactions by their
    items' ids as text; results that hinge on the order inside ties differ between the two.
    """
    if ties == FILE_ORDER:
        return log
    place = np.empty(log.n_items, np.int64)
    place[np.argsort(np.array(log.items.array.to_pylist(), object), kind="stable")] = np.arange(log.n_items)
    order = np.lexsort((place[log.item], log.timestamp, log.user))
    weight = None if log.weight is None else log.weight[order]
    return replace(log, item=log.item[order], timestamp=log.timestamp[order], weight=weight)


def is_first(log: Interactions) -> Mask:
    """Whether each interaction is the user's first with its item, shape (n,)."""
    pair = log.user.astype(np.int64) * log.n_items + log.item
    first = np.zeros(len(log), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    return first


def place(log: Interactions) -> Rows:
    """How many interactions of the same user precede each one, shape (n,)."""
    return np.arange(len(log), dtype=np.int64) - np.repeat(log.offsets[:-1], np.diff(log.offsets))


def single_cases(log: Interactions, rows: npt.NDArray[np.integer], readable: Mask | None = None) -> Cases:
    """One case for each interaction in ``rows``: the target is its item, the input all that precedes it."""
    return Cases.single(log, log.user[rows], place(log)[rows], log.item[rows], readable)


LEAST = 3
"""Interactions, or days, that a user needs: one for training, one for validation, one for the test."""
WARNING = (
    "leave-one-out lets training see what other users did after a test case happened, so scores are higher than they "
    "would be in use; the temporal split is the one to decide by"
)


def leave_one_out(log: Interactions, *, ties: Ties = "file order") -> Split:
    """Hold out the last interaction of each user with three or more, and the one before it.

    A last interaction with an item that the user had before is no case where seen items are hidden; it is kept from
    training all the same. The input of a test case includes the validation item.
    """
    log = with_ties(log, ties)
    users = np.flatnonzero(np.diff(log.offsets) >= LEAST)
    last = log.offsets[users + 1] - 1
    training = np.ones(len(log), bool)
    training[last] = training[last - 1] = False
    first = is_first(log)
    facts = {"users left out: fewer than 3 interactions": int(log.n_users - len(users))}
    return Split(
        name="leave-one-out",
        settings={"ties": ties},
        history=log,
        fitted=training,
        validation=single_cases(log, (last - 1)[first[last - 1]]),
        tests={"last": single_cases(log, last[first[last]])},
        warning=WARNING,
        facts=facts,
    )


def last_day(log: Interactions) -> Split:
    """Hold out each user's last two days with interactions (UTC): the last is the test, the one before validates.

    Every item of the day that is new to the user is a case; the input is what the user did on earlier days. A user
    needs a day before both.
    """
    day = log.timestamp // DAY
    user = log.user
    new_day = np.ones(len(log), bool)
    new_day[1:] = (day[1:] != day[:-1]) | (user[1:] != user[:-1])
    number = np.cumsum(new_day) - 1
    begin = np.flatnonzero(new_day)
    days = np.bincount(user[begin], minlength=log.n_users)
    nth = number - np.repeat(np.cumsum(days) - days, np.diff(log.offsets))
    left = np.repeat(days, np.diff(log.offsets)) - 1 - nth  # days of the user that follow
    enough = np.repeat(days >= LEAST, np.diff(log.offsets))
    length = begin[number] - log.offsets[:-1][user] if len(log) else number
    first = is_first(log)

    def cases(on: Mask) -> Cases:
        rows = np.flatnonzero(on & enough & first)
        return Cases.single(log, user[rows], length[rows], log.item[rows])

    return Split(
        name="last day",
        settings={},
        history=log,
        fitted=~(enough & (left <= 1)),
        validation=cases(left == 1),
        tests={"last day": cases(left == 0)},
        warning=WARNING.replace("leave-one-out", "this split"),
        facts={"users with fewer than 3 days": int((days < 3).sum())},
    )


def temporal(
    log: Interactions,
    *,
    train: float = 0.8,
    validation: float = 0.1,
    ties: Ties = "file order",
    repeats: bool = False,
) -> Split:
    """Cut at two quantiles of time: fit before t1, choose on [t1, t2), test from t2 on.

    A case is a user's first new item after the cut, its input everything that the user did before it; with ``repeats``
    the first interaction, whatever its item. A second test takes all new items after the cut as a set, its input what
    the user did before the cut. Users without anything before their case cannot be asked and are counted in the facts.

    ``train`` is the quantile of the interactions' times that gives t1, ``validation`` the share of the interactions
    between t1 and t2. Raises :class:`DataError` if the log has no times, or all of it is one moment.
    """
    log = with_ties(log, ties)
    t1, t2 = (int(np.quantile(log.timestamp, q, method="higher")) for q in (train, train + validation))
    if not int(log.timestamp.min()) < t1 < t2:
        raise DataError("a temporal split needs a log that spreads over time", "bring timestamps, or split otherwise")
    answers = np.ones(len(log), bool) if repeats else is_first(log)
    chosen, ignored = _first(log, answers, t1, t2)
    test, cold = _first(log, answers, t2, None)
    what = "item" if repeats else "new item"
    return Split(
        name="temporal",
        settings={"train": train, "validation": validation, "ties": ties} | ({"repeats": True} if repeats else {}),
        history=log,
        fitted=log.timestamp < t1,
        validation=single_cases(log, chosen),
        tests={f"first {what}": single_cases(log, test), f"all {what}s": _sets(log, answers, t2)},
        facts={
            "t1": t1,
            "t2": t2,
            "users without anything before the validation case": ignored,
            "users without anything before the test case": cold,
        },
    )


def _first(log: Interactions, answers: Mask, begin: int, end: int | None) -> tuple[Rows, int]:
    """Each user's first answer in [begin, end), and how many users had nothing before it."""
    inside = (log.timestamp >= begin) & (end is None or log.timestamp < end)
    rows = np.flatnonzero(inside & answers)
    rows = rows[np.unique(log.user[rows], return_index=True)[1]]
    before = place(log)[rows] > 0
    return rows[before].astype(np.int64), int((~before).sum())


def _sets(log: Interactions, answers: Mask, cut: int) -> Cases:
    """All answers of each user from the cut on, each item once."""
    before = np.bincount(log.user[log.timestamp < cut], minlength=log.n_users)
    rows = np.flatnonzero((log.timestamp >= cut) & answers)
    rows = rows[before[log.user[rows]] > 0]
    pairs = log.user[rows].astype(np.int64) * log.n_items + log.item[rows]
    rows = np.sort(rows[np.unique(pairs, return_index=True)[1]])
    users, counts = np.unique(log.user[rows], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Cases(log, users.astype(np.int64), before[users].astype(np.int64), offsets, log.item[rows])


def cold_items(
    log: Interactions, *, share: float = 0.2, seed: int = 0, ties: Ties = "file order", removed: bool = True
) -> Split:
    """Remove a random share of the items that occur in the log from all training histories.

    Every first interaction with a removed item is a case of the test ``cold``; its input are the earlier interactions
    with other items, at least one. The last two interactions of each user with other items are held out as validation
    and as the test ``warm``, if they are new to the user. The test ``overall`` takes the very last interaction of each
    such user, so that cold and warm answers come as often as they do in the log. All are ranked among all items. The
    test ``among the cold`` has the cases of ``cold`` once more, ranked among the removed items: it tells who finds
    the right ones of them, whatever share of the lists they are given.

    Where the drawn items are not ``removed``, the split tells what their absence costs the others: it has the test
    ``warm`` alone, with the same cases, and both training and inputs have all earlier items.
    """
    log = with_ties(log, ties)
    rated = np.unique(log.item)
    drawn = rng.generator(seed, "cold items").choice(rated, max(1, round(share * len(rated))), replace=False)
    warm = np.ones(log.n_items, bool)
    warm[drawn] = False
    is_warm, first = warm[log.item], is_first(log)
    rows = np.flatnonzero(is_warm)
    counts = np.bincount(log.user[rows], minlength=log.n_users)
    last = (np.cumsum(counts) - 1)[counts >= LEAST]
    validation, tested = (chosen[first[chosen]] for chosen in (rows[last - 1], rows[last]))
    if not removed:
        ends = np.full(log.n_users, len(log))  # a user's training ends before this row
        ends[log.user[rows[last]]] = rows[last - 1]
        return Split(
            name="cold items, none removed",
            settings={"share": share, "seed": seed, "ties": ties, "removed": False},
            history=log,
            fitted=np.arange(len(log)) < ends[log.user],
            validation=single_cases(log, validation),
            tests={"warm": single_cases(log, tested)},
            warning="training sees what others did after a case happened",
        )
    training = is_warm.copy()
    training[rows[last]] = training[rows[last - 1]] = False
    warm_before = np.cumsum(is_warm) - is_warm
    warm_before = warm_before - warm_before[log.offsets[:-1]][log.user] if len(log) else warm_before
    cold = np.flatnonzero(~is_warm & first & (warm_before > 0))
    facts = {
        "removed items": len(drawn),
        "cold cases without an earlier warm item": int((~is_warm & first & (warm_before == 0)).sum()),
        "interactions before a warm case, median": float(np.median(place(log)[rows[last]])) if len(last) else 0.0,
    }
    final = (log.offsets[1:] - 1)[counts >= LEAST]
    tests = {"cold": cold, "warm": tested, "overall": final[first[final] & (warm_before[final] > 0)]}
    asked = {name: single_cases(log, chosen, warm) for name, chosen in tests.items()}
    return Split(
        name="cold items",
        settings={"share": share, "seed": seed, "ties": ties},
        history=log,
        fitted=training,
        validation=single_cases(log, validation, warm),
        tests={**asked, "among the cold": replace(asked["cold"], ranked=~warm)},
        warning="training sees what others did after a case happened; only the removed items are unknown to it",
        facts=facts,
    )


def cold_users(
    log: Interactions,
    *,
    shown: int = 3,
    share: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
    ties: Ties = "file order",
) -> Split:
    """Keep all interactions of a random share of the users from training; show the first few, ask for the next.

    The target is the first item new to the user after the ``shown`` ones. Users who validate leave only their first
    ``shown`` interactions in the training log. Of the users with a case, ``share`` are drawn for the test and
    ``validation`` to validate. Raises :class:`DataError` if too few users have enough interactions.
    """
    log = with_ties(log, ties)
    nth = place(log)
    rows = np.flatnonzero((nth >= shown) & is_first(log))
    rows = rows[np.unique(log.user[rows], return_index=True)[1]]
    if len(rows) < 10:
        raise DataError(f"only {len(rows)} users have more than {shown} interactions", "bring a longer log")
    rows = rng.generator(seed, "cold users").permutation(rows)
    tested, chosen = round(share * len(rows)), round(validation * len(rows))
    test, validated = np.sort(rows[:tested]), np.sort(rows[tested : tested + chosen])
    hidden, partly = np.isin(log.user, log.user[test]), np.isin(log.user, log.user[validated])
    training = ~hidden & ~(partly & (nth >= shown))

    def cases(rows: Rows) -> Cases:
        return Cases.single(log, log.user[rows], np.full(len(rows), shown), log.item[rows])

    return Split(
        name="cold users",
        settings={"shown": shown, "share": share, "validation": validation, "seed": seed, "ties": ties},
        history=log,
        fitted=training,
        validation=cases(validated),
        tests={"next": cases(test)},
        warning="training sees what others did after a case happened; only the users are unknown to it",
        facts={"users with a case": len(rows)},
    )


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


SPLITS: dict[str, Callable[..., Split]] = {
    "leave-one-out": leave_one_out,
    "temporal": temporal,
    "cold items": cold_items,
    "cold users": cold_users,
    "last day": last_day,
}
"""By the name that a suite uses; keyword arguments are the suite's."""
PREQUENTIAL = "prequential"
"""What a suite calls a walk through time, which is many splits in one: :mod:`molar_eval.splits`."""


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


def check_leaks(split: Split) -> None:
    """Refuse a split whose answers can be read off what models are fitted on, or off a case's own input.

    Raises :class:`DataError`.
    """
    training = split.training
    again = bool(split.settings.get("repeats"))
    for name, cases in {"validation": split.validation, **split.tests}.items():
        known = _in_own_input(cases)
        if known.any() and not again:
            raise _leak(split, f"{int(known.sum()):,} answers of {name!r} are in the inputs of their own cases")
        if leaked := leaked_answers(training, cases, known):
            raise _leak(split, f"{leaked:,} answers of {name!r} are among the training interactions")
    t1 = split.facts.get("t1")
    if t1 is not None and len(training) and int(training.timestamp.max()) >= t1:
        raise _leak(split, "training interactions lie after the cut")


def leaked_answers(training: Interactions, cases: Cases, known: Mask | None = None) -> int:
    """How many targets are among the training interactions of their user, but not in the input of their own case.

    ``training`` has the users and items of the cases' history; ``known`` are the targets that are in their own input,
    shape (T,), None: they are looked for.
    """
    again = _in_own_input(cases) if known is None else known
    wanted = _pairs(cases.history, cases.user[cases.case_of_target], cases.targets)
    fitted = np.unique(_pairs(training, training.user, training.item))
    return int(np.isin(wanted[~again], fitted).sum())


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
