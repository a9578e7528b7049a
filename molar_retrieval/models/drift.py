"""Drift: how well an alignment foretells what people take next, asked before it learns of it, against its first days.

Every update first asks the alignment about what has come since the one before (prequential: Dawid 1984,
doi:10.2307/2981683), and keeps how often which place was hit. What the first few hundred cases after training gave is
the measure of the later ones. Validation is none: it asks for the last thing that each person took, with others' later
behaviour known, and so is easier than the future.

A fall is seen late, and the future may be harder for reasons that no training mends, as a season is. So towers are also
due to be trained on where enough has come that they have not read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.validation import ValidationCases, gains, sample
from molar_retrieval.workspace.settings import UpdateSettings
from molar_retrieval.workspace.tensors import Rows

if TYPE_CHECKING:
    from molar_retrieval.models.ensemble import Ensemble

_MOST_CASES = 400
_LEAST_CASES = 300
"""Cases from which a share can be told: of the first days, and of the last ones."""
_PLACES = 10
_RESAMPLES = 2000
_SMALL = 50
"""Cases below which a record takes in the next one."""
_GAIN = np.append(gains(np.arange(1, _PLACES + 1)), 0.0)


@dataclass(frozen=True)
class PredictedHits:
    """What an alignment foretold of the interactions up to a moment, ``until`` in seconds since 1970.

    ``hits`` are cases by the place of what was taken: first to tenth, and behind.
    """

    until: int
    hits: tuple[int, ...]

    @property
    def cases(self) -> int:
        """How many there were."""
        return sum(self.hits)

    def with_later(self, other: "PredictedHits") -> "PredictedHits":
        """Both as one."""
        return PredictedHits(other.until, tuple(a + b for a, b in zip(self.hits, other.hits, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"until": self.until, "hits": list(self.hits)}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Of what a manifest says."""
        return cls(int(record["until"]), tuple(map(int, record["hits"])))


@dataclass(frozen=True)
class Level:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Drift:
    """NDCG@10 of what came first after training (``then``) and last (``now``), and by what share it fell."""

    then: Level
    now: Level
    fall: Level

    def exceeds(self, limit: float) -> bool:
        """Whether the fall is larger than a share, and more than chance: its interval lies above zero."""
        return self.fall.mean > limit and self.fall.low > 0

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Reason:
    """Why towers are to be trained on.

    Attributes:
        drift: How far what is foretold has fallen since training, where that is more than may be; else None.
        unread: Share of the interactions that are newer than all that the towers have read.
    """

    drift: float | None
    new: float

    def in_words(self) -> str:
        """What weighs more."""
        if self.drift is not None:
            return f"new interactions are foretold {self.drift:.0%} worse than after training"
        return f"{self.new:.1%} of the interactions are new to the towers"


def reason(facts: Mapping[str, Any], settings: UpdateSettings) -> Reason | None:
    """Why the towers of an alignment with these facts, a derived one, are due to be trained on; None: they are not."""
    derived = facts["derived"]
    found, share = (
        drift([PredictedHits.of(record) for record in derived.get("foretold", [])]),
        derived.get("new_share", 0.0),
    )
    if found is not None and settings.drift is not None and found.exceeds(settings.drift):
        return Reason(found.fall.mean, share)
    enough = settings.retrain_threshold is not None and share >= settings.retrain_threshold and facts["towers"]
    return Reason(None, share) if enough else None


def new_share(facts: Mapping[str, Any], log: Interactions) -> float:
    """Share of a log that is newer than all that the towers of an alignment with these facts could read so far."""
    until = facts.get("warm", {}).get("until", facts.get("learned_until"))
    return 0.0 if until is None or not len(log) else float((log.timestamp > until).mean())


def predicted_hits(model: "Ensemble", before: Interactions, now: Interactions, seed: int = 0) -> PredictedHits | None:
    """Ask a model of the log ``before`` about what has come since, as the log ``now`` has it.

    A case is the first thing that a person took, by the strongest kind of event, after all of the former log, and had
    not had; person and item were known. Of more than 400 some are drawn. The logs may differ in users and items,
    which are told by their ids. None where there is no case.
    """
    from molar_retrieval.models.cold_start import model_ranks  # brings torch

    if not len(before):
        return None
    came = now.timestamp > before.timestamp.max()
    if not came.any():
        return None
    users, items = _places(now, before)
    rows = np.flatnonzero(came if now.strength is None else came & (now.strength == 1))
    rows = rows[(users[now.user[rows]] >= 0) & (items[now.item[rows]] >= 0)]
    user, item = users[now.user[rows]], items[now.item[rows]]
    had = before.user.astype(np.int64) * before.n_items + before.item
    new = ~np.isin(user * before.n_items + item, had) & (np.diff(before.offsets)[user] > 0)
    user, item, time = user[new], item[new], now.timestamp[rows[new]]
    asked, first = np.unique(user, return_index=True)
    if not len(asked):
        return None
    everything = np.ones(before.n_items, bool)
    cases = ValidationCases(before, asked, item[first], everything, time[first])
    cases = sample(cases, _MOST_CASES, rng.generator(seed, "foretold"))
    ranks = np.minimum(model_ranks(model.seeing(before), cases), _PLACES + 1)
    hits = np.bincount(ranks, minlength=_PLACES + 2)[1:]
    return PredictedHits(int(now.timestamp.max()), tuple(hits.tolist()))


def drift(records: Sequence[PredictedHits], seed: int = 0) -> Drift | None:
    """Compare the last cases with the first ones after training; None before there are 300 of either kind, apart."""
    first = reference(records)
    last = reference(records[::-1])
    if len(first) + len(last) > len(records) or min(_cases(first), _cases(last)) < _LEAST_CASES:
        return None
    random = rng.generator(seed, "drift")
    then, now = _resampled(first, random), _resampled(last, random)
    if not then[0]:
        return None
    falls = 1 - now / np.where(then > 0, then, np.nan)
    return Drift(_level(then), _level(now), _level(falls))


def with_record(records: Sequence[PredictedHits], new: PredictedHits | None = None) -> list[PredictedHits]:
    """What is worth keeping of the records and a ``new`` one: the first and the last 300 cases, in few records."""
    kept = list(records)
    if new is not None and kept and kept[-1].cases < _SMALL:
        kept[-1] = kept[-1].with_later(new)
    elif new is not None:
        kept.append(new)
    first = reference(kept)
    rest = kept[len(first) :]
    return [*first, *reference(rest[::-1])[::-1]]


def reference(records: Sequence[PredictedHits]) -> Sequence[PredictedHits]:
    """The first records that have 300 cases together: what later ones are measured by; all where there are fewer."""
    counts = np.cumsum([record.cases for record in records])
    return records[: int(np.searchsorted(counts, _LEAST_CASES)) + 1]


def _cases(records: Sequence[PredictedHits]) -> int:
    return sum(record.cases for record in records)


def _resampled(records: Sequence[PredictedHits], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """The mean gain of the cases, and of each of 2,000 draws of as many of them."""
    hits = np.sum([record.hits for record in records], axis=0)
    count = int(hits.sum())
    drawn = np.vstack([hits, random.multinomial(count, hits / count, _RESAMPLES)])
    means: npt.NDArray[np.float64] = drawn @ _GAIN / count
    return means


def _level(values: npt.NDArray[np.float64]) -> Level:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Level(float(values[0]), float(low), float(high))


def _places(now: Interactions, before: Interactions) -> tuple[Rows, Rows]:
    """Where each user and item of one log is in another one, -1 where it is not."""
    users = before.users.rows(now.users.array).astype(np.int64)
    return users, before.items.rows(now.items.array).astype(np.int64)
