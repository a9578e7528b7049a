"""Faults planted at known places in a clean made-up log, and how many of them `molar check` finds.

    python bench/log_faults.py [--seeds 5] [--json FILE]

The clean log has people who come in the evening and on some days of the week more than on others, visits of a few
interactions, and an order in which things follow one another; nothing is wrong with it. Each planter puts one kind of
fault into it and says where. Recall is the share of the planted faults that are found; precision counts findings of a
kind in all runs, also in those in which other faults were planted; a planter says which other kinds come with its own.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from molar_retrieval.data.schema import read_spec
from molar_retrieval.ids import IdMap
from molar_retrieval.quality.findings import Finding, FindingCollector
from molar_retrieval.quality.interactions import check_log

DAY, HOUR = 86_400, 3_600
START = 1_609_459_200  # 2021-01-01, a Friday
NOW = START + 400 * DAY
DAYS = 120
_USERS, _ITEMS, _VISITS = 600, 300, 11
_WEEK = np.array([1.0, 1.3, 1.3, 0.8, 0.9, 1.0, 1.1])
_HOURS = np.exp(-0.5 * ((np.arange(24) - 19.5) / 3.0) ** 2) + 0.15 * ((np.arange(24) > 7) & (np.arange(24) < 23)) + 0.01


@dataclass(frozen=True)
class MadeLog:
    """A log: who, what, when (seconds; any words may stand there, too), and whether a row is a planted fault."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    planted: np.ndarray
    items: tuple[str, ...]
    users: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.user)

    def rows(self, which) -> "MadeLog":
        return replace(self, **{name: getattr(self, name)[which] for name in ("user", "item", "time", "planted")})

    def plus(self, user, item, time) -> "MadeLog":
        """With more rows, which are the planted ones, at random places of the file."""
        columns = {"user": user, "item": item, "time": time, "planted": np.ones(len(user), bool)}
        merged = {name: np.concatenate([getattr(self, name), values]) for name, values in columns.items()}
        return replace(self, **merged)

    def write(self, folder: Path) -> None:
        """As a catalogue: items, users, and the log as CSV where a time is no number."""
        pq.write_table(pa.table({"item_id": self.items, "title": self.items}), folder / "items.parquet")
        pq.write_table(pa.table({"user_id": self.users}), folder / "users.parquet")
        columns = {"user_id": pa.array(self.user.tolist()), "item_id": pa.array(self.item.tolist())}
        if self.time.dtype == object:
            columns["timestamp"] = pa.array([None if time is None else str(time) for time in self.time])
            pa_csv.write_csv(pa.table(columns), folder / "interactions.csv")
        else:
            columns["timestamp"] = pa.array(self.time)
            pq.write_table(pa.table(columns), folder / "interactions.parquet")


@dataclass(frozen=True)
class Planted:
    """A log with faults; where they are, as :func:`place` would say it; kinds that come with them."""

    log: MadeLog
    places: frozenset[object]
    also: frozenset[str] = field(default_factory=frozenset)


Planter = Callable[[MadeLog, np.random.Generator], Planted]
PLANTERS: dict[str, Planter] = {}


def planter(kind: str) -> Callable[[Planter], Planter]:
    def register(plant: Planter) -> Planter:
        PLANTERS[kind] = plant
        return plant

    return register


def clean_log(random: np.random.Generator) -> MadeLog:
    """A log without any fault."""
    follows = random.permutation(_ITEMS)
    user, item, time = [], [], []
    for row in range(_USERS):
        visits = 2 + random.poisson(_VISITS - 2)
        # Days by the day of the week; the epoch's first day was a Thursday.
        weights = _WEEK[(START // DAY + np.arange(DAYS) + 4) % 7]
        days = np.sort(random.choice(DAYS, visits, replace=False, p=weights / weights.sum()))
        last, had = int(random.integers(_ITEMS)), set()
        for day in days:
            clock = (
                START + day * DAY + int(random.choice(24, p=_HOURS / _HOURS.sum())) * HOUR + int(random.integers(HOUR))
            )
            for _ in range(1 + random.poisson(1.5)):
                last = int(follows[last]) if random.random() < 0.5 else int(random.integers(_ITEMS))
                while last in had:
                    last = int(random.integers(_ITEMS))
                had.add(last)
                user.append(row)
                item.append(last)
                time.append(clock)
                clock += int(random.integers(20, 400))
    users = np.array([f"u{row:04d}" for row in range(_USERS)])
    items = np.array([f"i{row:04d}" for row in range(_ITEMS)])
    order = np.argsort(time, kind="stable")
    columns = (users[user][order], items[item][order], np.array(time)[order], np.zeros(len(user), bool))
    return MadeLog(*columns, tuple(items.tolist()), tuple(users.tolist()))


def some(log: MadeLog, random: np.random.Generator, share: float = 0.01) -> np.ndarray:
    """Some rows, as a mask."""
    mask = np.zeros(len(log), bool)
    mask[random.choice(len(log), max(1, int(share * len(log))), replace=False)] = True
    return mask


def at_rows(log: MadeLog, mask: np.ndarray, also: Iterable[str] = (), **changed) -> Planted:
    """Rows of a mask with other values; the places are their numbers."""
    columns = {}
    for name, value in changed.items():
        column = getattr(log, name).astype(object)
        column[mask] = value
        columns[name] = column if name == "time" and isinstance(value, str) else np.array(column.tolist(), object)
    if "time" in columns and not any(isinstance(value, str) or value is None for value in columns["time"]):
        columns["time"] = columns["time"].astype(np.int64)
    return Planted(replace(log, **columns), frozenset((np.flatnonzero(mask) + 1).tolist()), frozenset(also))


@planter("log.missing_user")
def missing_user(log, random):
    return at_rows(log, some(log, random), user=None)


@planter("log.missing_item")
def missing_item(log, random):
    return at_rows(log, some(log, random), item="  ")


@planter("log.missing_time")
def missing_time(log, random):
    return at_rows(log, some(log, random), time=None)


@planter("log.bad_time")
def bad_time(log, random):
    return at_rows(log, some(log, random), time="yesterday")


@planter("log.unknown_item")
def unknown_item(log, random):
    mask = some(log, random)
    names = [f"gone{i % 40}" for i in range(mask.sum())]
    item = log.item.astype(object)
    item[mask] = names
    return Planted(replace(log, item=item), frozenset(names))


@planter("log.item_spelling")
def item_spelling(log, random):
    written = np.array([item.upper() for item in log.item])
    # All are unknown then, and nothing is left to look at.
    return Planted(
        replace(log, item=written), frozenset({"log"}), frozenset({"log.unknown_item", "log.nothing_usable"})
    )


@planter("user.unknown")
def unknown_user(log, random):
    gone = frozenset(random.choice(log.users, 12, replace=False).tolist())
    return Planted(replace(log, users=tuple(user for user in log.users if user not in gone)), gone)


@planter("user.twice")
def user_twice(log, random):
    twice = random.choice(log.users, 12, replace=False).tolist()
    return Planted(replace(log, users=(*log.users, *twice)), frozenset(range(len(log.users) + 1, len(log.users) + 13)))


@planter("log.future_time")
def future_time(log, random):
    return at_rows(log, some(log, random), time=int(NOW + 5 * DAY))


@planter("log.zero_time")
def zero_time(log, random):
    return at_rows(log, some(log, random), time=0)


@planter("log.duplicate")
def duplicate(log, random):
    taken = np.flatnonzero(some(log, random))
    repeated = log.plus(log.user[taken], log.item[taken], log.time[taken])
    mixed = repeated.rows(np.argsort(repeated.time, kind="stable"))  # each right after its original
    return Planted(mixed, frozenset((np.flatnonzero(mixed.planted) + 1).tolist()))


@planter("log.constant_time")
def constant_time(log, random):
    return Planted(replace(log, time=np.full(len(log), START)), frozenset({"log"}), frozenset({"log.ties"}))


@planter("log.stuck_time")
def stuck_time(log, random):
    day = int(random.integers(30, 90))
    mask = some(log, random, 0.03)
    time = np.where(mask, START + day * DAY, log.time)
    return Planted(replace(log, time=time), frozenset({date_of(day)}))


@planter("log.gap")
def gap(log, random):
    lost = {int(random.integers(20, 50)), *range(70, 70 + int(random.integers(2, 6)))}
    keep = ~np.isin((log.time - START) // DAY, list(lost))
    return Planted(log.rows(keep), frozenset(map(date_of, lost)))


@planter("log.burst")
def burst(log, random):
    days = random.choice(np.arange(10, 110, 10), 3, replace=False)
    n = 1_500
    user, item = random.choice(log.users, 3 * n), random.choice(log.items, 3 * n)
    hours = random.choice(24, 3 * n, p=_HOURS / _HOURS.sum())
    time = START + np.repeat(days, n) * DAY + hours * HOUR + random.integers(0, HOUR, 3 * n)
    return Planted(log.plus(user, item, time), frozenset(map(date_of, days.tolist())), frozenset({"log.repeats"}))


@planter("log.ties")
def ties(log, random):
    return Planted(replace(log, time=log.time // DAY * DAY), frozenset({"log"}), frozenset({"log.zone_jump"}))


@planter("log.repeats")
def repeats(log, random):
    taken = np.flatnonzero(some(log, random, 0.12))
    return Planted(log.plus(log.user[taken], log.item[taken], log.time[taken] + 3 * HOUR), frozenset({"log"}))


@planter("log.not_dates")
def not_dates(log, random):
    return Planted(replace(log, time=np.arange(len(log))), frozenset({"log"}), frozenset({"log.ties"}))


def date_of(day: int) -> str:
    return str(np.datetime64("2021-01-01") + day)


def place(finding: Finding) -> list[object]:
    """Where a finding says that a fault is: rows, users, items, days, a moment, or the log as a whole."""
    name = finding.kind.name
    if name == "log.unknown_item":
        return [finding.item_id]
    if name == "user.unknown":
        return [finding.user_id]
    if name == "log.stuck_time":
        return [finding.detail.rpartition(" at ")[2]]
    if name == "log.gap":
        return [str(np.datetime64(finding.detail[:10]) + day) for day in range(int(finding.amount))]
    if name == "log.burst":
        return [finding.detail[:10]]
    return ["log"] if finding.row is None or name == "log.item_spelling" else [finding.row]


@dataclass
class Score:
    """Found, missed and wrongly reported places of one kind."""

    found: int = 0
    missed: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float:
        return self.found / max(self.found + self.missed, 1)

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.wrong, 1)


def measure(seeds: int, kinds: Iterable[str] = PLANTERS) -> dict[str, Score]:
    """Plant each kind in logs of their own, and one log with nothing planted."""
    scores = {name: Score() for name in PLANTERS}
    others: Counter[str] = Counter()
    for seed in range(seeds):
        clean = clean_log(np.random.default_rng(seed))
        for name in ("nothing", *kinds):
            planted = Planted(clean, frozenset())
            if name != "nothing":
                planted = PLANTERS[name](clean, np.random.default_rng([seed, *name.encode()]))
            said: dict[str, set[object]] = {}
            for finding in checked(planted.log):
                said.setdefault(finding.kind.name, set()).update(place(finding))
            for kind, places in said.items():
                if kind == name:
                    scores[kind].wrong += len(places - planted.places)
                elif kind not in planted.also:
                    scores.setdefault(kind, Score()).wrong += len(places)
                    others[f"{kind} where {name} was planted"] += len(places)
            if name != "nothing":
                reported = said.get(name, set())
                scores[name].found += len(planted.places & reported)
                scores[name].missed += len(planted.places - reported)
    for words, count in others.items():
        Console(stderr=True).print(f"{count} × {words}")
    return scores


def checked(log: MadeLog) -> tuple[Finding, ...]:
    """What the check finds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log.write(folder)
        found = FindingCollector(examples=100_000, limit=100_000)
        check_log(folder, read_spec(folder), IdMap(log.items), found, now=NOW)
        return tuple(finding for kind in found.counts for finding in found.examples(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scores = measure(options.seeds)
    table = Table("kind", "planted", "precision", "recall")
    for name, score in sorted(scores.items()):
        table.add_row(name, str(score.found + score.missed), f"{score.precision:.3f}", f"{score.recall:.3f}")
    Console().print(table)
    if options.json:
        rows = {name: {**vars(s), "precision": s.precision, "recall": s.recall} for name, s in sorted(scores.items())}
        options.json.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
