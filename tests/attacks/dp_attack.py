"""Whether the promise holds, by an attack: made-up people are planted in a copy of the log, and guessed from a release.

Each of them took two items that no other one of them took, and is in the log or not by the toss of a coin. The attacker
knows all others, who was made up, and what each would have added, and guesses of those that are clearest whether they
were there. How often that may succeed under (ε, δ) bounds ε from below, by one release for all of them (Steinke, Nasr,
Jagielski 2023, arXiv 2305.08846). A bound above the promised ε shows that something is broken; one far below it proves
nothing, as a better attack may exist.
"""

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import exp, inf
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.dp_release import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.privacy.statistics import PAIRS, POPULARITY, TRANSITIONS, DPStatistics
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

CONFIDENCE = 0.95
FEWEST = 20
"""Made-up people below whom nothing can be told."""
_GUESSED = 0.5
"""Share of them of whom something is guessed: the clearest."""
Releasing = Callable[[Interactions, Matrix, GaussianMechanism], DPStatistics]


@dataclass(frozen=True)
class AuditRun:
    """One release and the guesses from it.

    Attributes:
        guesses: How many were guessed.
        right: How many of them rightly.
        epsilon: What ε is at least, with 95 % confidence.
    """

    guesses: int
    right: int
    epsilon: float


@dataclass(frozen=True)
class PrivacyAudit:
    """An audit.

    Attributes:
        epsilon: That is promised.
        delta: That is promised.
        planted: Made-up people, each of whom was in the log or not.
        runs: The releases.
        without_noise: Share of all of them that the same attack guesses rightly from the same sums without noise.
    """

    epsilon: float
    delta: float
    planted: int
    runs: tuple[AuditRun, ...]
    without_noise: float

    @property
    def holds(self) -> bool:
        """Whether no run contradicts the promise."""
        return all(run.epsilon <= self.epsilon for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"holds": self.holds}


def audit(
    log: Interactions,
    features: Matrix,
    mechanism: GaussianMechanism,
    *,
    runs: int = 1,
    planted: int | None = None,
    progress: Progress = SILENT,
    releasing: Releasing = dp_release,
) -> PrivacyAudit:
    """Attack releases of the log with made-up people in it.

    Nothing of it is kept. What is guessed with is the release less the sums of all real people, that is, noise and
    made-up people alone: it tells of nobody, and needs no entry in the ledger.

    Args:
        log: Of the shop.
        features: Conditioned content of all items, shape (n_items, f).
        mechanism: What is promised, and the noise for it.
        runs: Releases.
        planted: Made-up people at most; None: one for every two items.
        progress: Told of the runs.
        releasing: What makes a release; another one in tests.

    Raises:
        DataError: If there are too few items for that many people.
    """
    exact = GaussianMechanism(inf, mechanism.delta, 0.0)
    progress.start("audit", runs + 2)
    base = releasing(log, features, exact)
    progress.advance()
    pairs = _pairs(base, log.n_items // 2 if planted is None else min(planted, log.n_items // 2))
    if len(pairs) < FEWEST:
        raise DataError(
            f"{len(pairs)} people are too few to be made up, who take two items each that no other one takes",
            f"an audit takes {FEWEST} of them at least, so {2 * FEWEST} items",
        )
    own = releasing(_people(log, pairs), features, exact)
    done, there = [], _tossed(len(pairs))
    right = _guessed(releasing(_with(log, _people(log, pairs[there])), features, exact), base, own, pairs) > 0
    without = float((right == there).mean())
    progress.advance()
    for _ in range(runs):
        there = _tossed(len(pairs))
        released = releasing(_with(log, _people(log, pairs[there])), features, mechanism)
        done.append(_run(_guessed(released, base, own, pairs), there, mechanism.delta))
        progress.advance()
    progress.finish()
    return PrivacyAudit(mechanism.epsilon, mechanism.delta, len(pairs), tuple(done), without)


def epsilon_bound(planted: int, guesses: int, right: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """What ε is at least, where so many guesses of planted people were right (Steinke et al. 2023, appendix D)."""
    low, high = 0.0, 1.0
    while _chance(planted, guesses, right, high, delta) < 1 - confidence:
        high += 1
    for _ in range(40):
        middle = (low + high) / 2
        contradicted = _chance(planted, guesses, right, middle, delta) < 1 - confidence
        low, high = (middle, high) if contradicted else (low, middle)
    return low


def _chance(planted: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How likely so many guesses are right, or more, under (ε, δ), at most."""
    likely = 1 / (1 + exp(-epsilon))
    sums = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, likely))
    steepest = float(max((sums / np.arange(1, right + 1)).max(initial=0), 0))
    return min(1.0, float(binom.sf(right - 1, guesses, likely)) + steepest * delta * 2 * planted)


def _run(scores: npt.NDArray[np.float64], there: Mask, delta: float) -> AuditRun:
    """Guesses of the clearest: those with the highest scores were there, those with the lowest were not."""
    side = int(len(scores) * _GUESSED / 2)
    order = np.argsort(scores, kind="stable")
    right = int(there[order[len(order) - side :]].sum() + (~there[order[:side]]).sum())
    return AuditRun(2 * side, right, epsilon_bound(len(scores), 2 * side, right, delta))


def _tossed(count: int) -> Mask:
    """By the system's entropy: a seed that is known would tell who is there."""
    return np.random.default_rng(secrets.randbits(128)).random(count) < 0.5


def _pairs(base: DPStatistics, most: int) -> Rows:
    """Disjoint pairs of items, shape (m, 2): first those that most people have, whose sums are released for sure."""
    strongest = base.pairs.tocoo()
    order = np.argsort(-strongest.data, kind="stable")
    free = np.ones(base.n_items, bool)
    found: list[tuple[int, int]] = []
    for one, other in zip(strongest.row[order].tolist(), strongest.col[order].tolist(), strict=True):
        if len(found) == most:
            break
        if free[one] and free[other]:
            free[[one, other]] = False
            found.append((one, other))
    rest = np.flatnonzero(free)
    some = min(len(rest) // 2, most - len(found))
    found += zip(rest[: 2 * some : 2].tolist(), rest[1 : 2 * some : 2].tolist(), strict=True)
    return np.array(found, np.int64).reshape(-1, 2)


def _people(log: Interactions, pairs: Rows) -> Interactions:
    """Made-up people, each with the two items of a pair."""
    count = 2 * len(pairs)
    return replace(
        log,
        users=IdMap([f"made up {number}" for number in range(len(pairs))]),
        offsets=np.arange(0, count + 1, 2, dtype=np.int64),
        item=pairs.ravel().astype(np.int32),
        timestamp=np.full(count, log.timestamp.max() if len(log) else 0, np.int64),
        weight=None,
        strength=None if log.strength is None else np.ones(count, np.float32),
        asked_at=None,
    )


def _with(log: Interactions, others: Interactions) -> Interactions:
    """One log of the people of both."""
    strength = None if log.strength is None or others.strength is None else [log.strength, others.strength]
    return replace(
        others,
        users=IdMap.numbered(log.n_users + others.n_users),
        offsets=np.concatenate([log.offsets, log.offsets[-1] + others.offsets[1:]]),
        item=np.concatenate([log.item, others.item]),
        timestamp=np.concatenate([log.timestamp, others.timestamp]),
        strength=None if strength is None else np.concatenate(strength),
    )


def _guessed(released: DPStatistics, base: DPStatistics, own: DPStatistics, pairs: Rows) -> npt.NDArray[np.float64]:
    """How much more likely each one was there than not, but for a factor: the log of the ratio, shape (m,)."""
    one, other = pairs.T
    counted = own.popularity * (released.popularity - base.popularity - own.popularity / 2)
    looked = np.zeros(len(counted))
    if released.transitions.shape[1]:  # few people have none
        looked = (own.transitions * (released.transitions - base.transitions - own.transitions / 2)).sum(axis=1)
    each, now, before = (np.asarray(some.pairs[one, other]).ravel() for some in (own, released, base))
    together = np.where(now > 0, each * (now - before - each / 2), 0)  # others are below the threshold
    parts = {POPULARITY: counted[one] + counted[other], TRANSITIONS: looked[one] + looked[other], PAIRS: together}
    noise = {name: released.deviations.get(name) or 1.0 for name in parts}  # of what is not released, there is none
    likely = sum(np.asarray(part, np.float64) / noise[name] ** 2 for name, part in parts.items())
    return np.asarray(likely, np.float64)
