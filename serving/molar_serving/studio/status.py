"""How what is served is: how fresh it is, what is wrong with it, what the last work on it took, what fills the disk."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar_eval.kpi.by_day import (
    HOLDOUT,
    ArmFigures,
    CatalogueExposure,
    DayFacts,
    DayFigures,
    ItemsTaken,
    daily,
    exposure,
    items_taken,
)
from molar_eval.statistics import ConfidenceInterval, difference_of_shares, share_interval
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_store import OF_ITEM
from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.activity_log import Work, work_done
from molar_retrieval.workspace.artefacts import MAKERS, Workspace
from molar_retrieval.workspace.files import free_space, generation_size, size_on_disk
from molar_serving.observability import newest_warnings

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Manifest
    from molar_retrieval.workspace.settings import CostSettings
    from molar_serving.service import Service

_OVERDUE = timedelta(hours=36)  # since a generation was made, though something came
_HOURS = 24  # whose errors and work count
_NEWEST = 100  # events, one of which is of the last day of the log
_WARNINGS = 1_000  # of the server that are looked through
_OF_OTHERS = ("events", "evaluation", "serving", "work")
Kind = Literal["bad", "note"]
WEEK, SHOWN = 7, 28
"""Days that are compared with as many before, and days of the charts."""


@dataclass(frozen=True)
class Ailment:
    """Something that is wrong, or that should be known.

    Attributes:
        kind: How bad it is.
        word: What it is, a word of ``words/overview.toml``.
        values: What stands in the word.
        remedy: What to do, as the library says it.
    """

    kind: Kind
    word: str
    values: dict[str, Any]
    remedy: str = ""


@dataclass(frozen=True)
class Freshness:
    """How much of what happened the answers know.

    Attributes:
        generation: What answers; None: nothing does.
        made: When it was made, in ISO 8601.
        items: Its items.
        users: Its people.
        last: When the last event arrived, in ISO 8601; None: none came.
        events: How many came in all.
        since: How many since the generation was made; answers know them, models do not.
        waiting: Items that came by events and have no vector yet, the newest first.
        waiting_since: When the newest of these came, in ISO 8601.
    """

    generation: str | None
    made: str | None
    items: int
    users: int
    last: str | None
    events: int
    since: int
    waiting: tuple[str, ...]
    waiting_since: str | None


@dataclass(frozen=True)
class NightlyCost:
    """What updates and trainings of the last day took.

    Attributes:
        works: Which they were, the newest first.
        seconds: By the clock, together.
        processor: Of all processors.
        money: In the currency of the settings; None: these name no price.
    """

    works: tuple[Work, ...]
    seconds: float
    processor: float
    money: float | None


@dataclass(frozen=True)
class DiskUse:
    """What the workspace takes.

    Attributes:
        kinds: Bytes by folder, the largest first.
        free: Bytes that are free.
    """

    kinds: dict[str, int]
    free: int


def freshness(service: "Service") -> Freshness:
    """How fresh what answers is."""
    manifest = _live(service)
    facts = {} if manifest is None else manifest.facts
    contained = facts.get("events", {})
    with opened(service.workspace) as state:
        last = 0 if state is None else state.last
        newest = None if state is None or not last else state.newest(1)["received"][-1].as_py()
        columns = ("item_id", "received")
        where = f"WHERE {OF_ITEM} AND event = 'item_upsert' AND seq > ? ORDER BY seq DESC"
        came = [
            row
            for table in ([] if state is None else state.of_database(columns, where, [contained.get("catalogue", 0)]))
            for row in table.to_pylist()
        ]
    known = _known(service, [row["item_id"] for row in came]) if came and manifest is not None else set()
    waiting = [row for row in came if row["item_id"] not in known]
    return Freshness(
        generation=None if manifest is None else manifest.fingerprint,
        made=None if manifest is None else manifest.created,
        items=int(facts.get("items", 0)),
        users=int(facts.get("users", 0)),
        last=None if newest is None else newest.isoformat(),
        events=last,
        since=max(0, last - int(contained.get("interactions", 0))),
        waiting=tuple(dict.fromkeys(row["item_id"] for row in waiting)),
        waiting_since=_moment(waiting[0]["received"]) if waiting else None,
    )


def health(service: "Service", fresh: Freshness) -> list[Ailment]:
    """What is wrong, the worst first; nothing where all is well."""
    found = [*_of_answers(service), *_of_work(service), *_of_disk(service, fresh)]
    if errors := errors_lately(service):
        found.append(Ailment("bad", "errors", {"n": errors, "hours": _HOURS}))
    if fresh.made and fresh.since and datetime.now(UTC) - datetime.fromisoformat(fresh.made) > _OVERDUE:
        found.append(Ailment("note", "overdue", {"n": fresh.since}, "molar update"))
    found += _due(service)
    return sorted(found, key=lambda one: one.kind)


def errors_lately(service: "Service") -> int:
    """How many errors the server told in the last day."""
    since = (datetime.now(UTC) - timedelta(hours=_HOURS)).isoformat()
    told = newest_warnings(service.workspace.root, _WARNINGS)
    return sum(one.level in ("ERROR", "CRITICAL") and one.time > since for one in told)


def nightly_cost(works: list[Work], costs: "CostSettings") -> NightlyCost:
    """What those that ended in the last day took, of these works."""
    since = datetime.now(UTC) - timedelta(hours=_HOURS)
    ours = tuple(one for one in works if one.ended is not None and one.ended > since)
    seconds = sum(one.seconds or 0.0 for one in ours)
    money = None if costs.machine_hour is None else costs.machine_hour * seconds / 3_600
    return NightlyCost(ours, seconds, sum(one.processor or 0.0 for one in ours), money)


def disk_use(workspace: Workspace) -> DiskUse:
    """What fills the disk, by kind of artefact."""
    sizes = {kind: size_on_disk(workspace.root / kind) for kind in (*MAKERS, *_OF_OTHERS)}
    rest = size_on_disk(workspace.root) - sum(sizes.values())
    kinds = {kind: size for kind, size in {**sizes, "other": max(0, rest)}.items() if size}
    return DiskUse(dict(sorted(kinds.items(), key=lambda one: -one[1])), free_space(workspace.root))


def _live(service: "Service") -> "Manifest | None":
    try:
        return service.recommender.generation.manifest
    except MolarError:
        return None


def _known(service: "Service", item_ids: list[str]) -> set[str]:
    """Which of some items the generation that answers has."""
    live = service.workspace["catalogue"].live
    if live is None:
        return set()
    rows = Catalogue(*live).rows(item_ids)
    return {item_id for item_id, row in zip(item_ids, rows.tolist(), strict=True) if row >= 0}


def _of_answers(service: "Service") -> list[Ailment]:
    try:
        refused = service.recommender.refused
    except MolarError as error:
        return [Ailment("bad", "unavailable", {"problem": redacted(error.message)}, redacted(error.hint))]
    found = (
        [] if refused is None else [Ailment("bad", "refused", {"problem": redacted(refused)}, "molar index rollback")]
    )
    if service.shown.problem is not None:
        found.append(Ailment("note", "not_kept", {"problem": redacted(service.shown.problem)}))
    return found


def _of_work(service: "Service") -> list[Ailment]:
    """The last update or training, where it did not go well."""
    ended = (one for one in work_done(service.workspace, 20) if one.state != "running")
    last = next((one for one in ended if one.what in ("update", "align")), None)
    if last is None or last.state == "done":
        return []
    values = {"what": f"molar {last.what}", "problem": last.outcome}
    return [Ailment("bad", f"work_{last.state}", values, last.remedy or f"molar {last.what}")]


def _of_disk(service: "Service", fresh: Freshness) -> list[Ailment]:
    manifest = service.workspace["interactions"].manifest
    interactions = 0 if manifest is None else int(manifest.facts.get("interactions", 0))
    need, free = generation_size(fresh.items, fresh.users, interactions), free_space(service.workspace.root)
    return [Ailment("bad", "disk", {"free": free, "need": need})] if free < need else []


def _due(service: "Service") -> list[Ailment]:
    from molar.due import due

    alignment = service.workspace["alignment"].manifest
    if alignment is None:
        return []
    return [Ailment("note", "due", {"why": one.why}, one.command) for one in due(alignment, service.settings)]


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def last_day(workspace: Workspace, days: int) -> int:
    """Up to which day figures are told, in days since 1970 (UTC): today, or the last one of a log that ended long ago.

    Long ago is as many ``days`` as are told, or more; so it is with a log that was brought from elsewhere.
    """
    today = int(time.time() // 86_400)
    with opened(workspace) as state:
        newest = None if state is None else state.newest(_NEWEST)["timestamp"]
    if newest is None or not len(newest):
        return today
    last = max(newest.to_pylist()).timestamp() // 86_400
    return int(last) if last <= today - days else today


@dataclass(frozen=True)
class ShareOfDays:
    """So many of so many, with a 95 % interval; ``interval`` is None where there are none."""

    part: int
    whole: int
    interval: ConfidenceInterval | None

    @classmethod
    def of(cls, part: int, whole: int) -> "ShareOfDays":
        """With its interval."""
        return cls(part, whole, share_interval(min(part, whole), whole))


@dataclass(frozen=True)
class HoldoutFigures:
    """People who see no lists, compared with all others of the experiment, by the share who bought something.

    Attributes:
        without: Those in the arm ``holdout``.
        others: All others of whom an arm is known.
        gap: The share of the others minus that of the holdout, with its interval.
    """

    without: ShareOfDays
    others: ShareOfDays
    gap: ConfidenceInterval | None

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return self.gap is not None and not self.gap.low <= 0 <= self.gap.high


@dataclass(frozen=True)
class Trade:
    """Figures for the overview.

    Attributes:
        days: 28 days, the last one today, or where the log ends.
        week: The last seven of them together.
        before: The seven before these.
        spread: How this week's places went over the catalogue; None: no update has counted anything yet.
        spread_before: The same of the week before.
    """

    days: tuple[DayFigures, ...]
    week: DayFigures
    before: DayFigures
    spread: CatalogueExposure | None
    spread_before: CatalogueExposure | None

    @property
    def times(self) -> list[int]:
        """When each day begins, in seconds since 1970."""
        return [day.day * 86_400 for day in self.days]

    @property
    def ended(self) -> int | None:
        """When the last day begins, in seconds since 1970, if it is long ago; None: it is today, or lately."""
        last = self.times[-1]
        return last if last < time.time() - SHOWN * 86_400 else None

    @property
    def has_values(self) -> bool:
        """Whether a purchase says what was paid."""
        return any(day.everything.priced for day in self.days)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened in these days."""
        return all(day.is_empty for day in self.days)

    @property
    def holdout(self) -> HoldoutFigures | None:
        """What an experiment with a holdout says of these 28 days; None: there is none."""
        arms = DayFigures.total(self.days).arms
        if HOLDOUT not in arms or len(arms) == 1:
            return None
        one = arms[HOLDOUT]
        rest = ArmFigures.total(arm for name, arm in arms.items() if name != HOLDOUT)
        gap = difference_of_shares((rest.buyers, rest.people), (one.buyers, one.people))
        return HoldoutFigures(ShareOfDays.of(one.buyers, one.people), ShareOfDays.of(rest.buyers, rest.people), gap)


def latest_trade(workspace: Workspace) -> Trade:
    """The figures up to today, or up to where a log ends that ended long ago."""
    return trade(workspace, last_day(workspace, SHOWN))


def trade(workspace: Workspace, today: int) -> Trade:
    """The figures of the days up to one, in days since 1970."""
    facts = daily(workspace, SHOWN, today)
    taken = _taken(workspace)
    week, before = facts[-WEEK:], facts[-2 * WEEK : -WEEK]
    spread = [None if taken is None else exposure(one, taken) for one in (week, before)]
    return Trade(
        days=tuple(one.figures for one in facts),
        week=_total(week),
        before=_total(before),
        spread=spread[0],
        spread_before=spread[1],
    )


def _total(facts: Sequence[DayFacts]) -> DayFigures:
    return DayFigures.total(one.figures for one in facts)


def _taken(workspace: Workspace) -> ItemsTaken | None:
    versions = workspace["catalogue"].current, workspace["interactions"].current
    return None if None in versions else _taken_of(workspace.root, versions)


@lru_cache(maxsize=2)
def _taken_of(root: Path, versions: tuple[Path | None, ...]) -> ItemsTaken | None:
    """Kept by the versions that it is of."""
    return items_taken(Workspace(root))
