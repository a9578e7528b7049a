"""Whether the order of a log means anything: the shuffled-order test.

Somebody who has just taken *p* takes *a* next, and *b* some time later. Of the users of another half, do more go from
*p* to *a* than from *p* to *b*? If order means nothing, *a* and *b* could as well have changed places, and the answer
is yes as often as no, whatever people like. So the share of "yes" among the comparisons that are decided is one half in
a log whose histories are shuffled, and more in a log with an order to learn from.

Interactions of one time have no order and are taken as one moment, from which one interaction is drawn.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.quality.log.rows import Ints, LogRows

INTERACTIONS = 400_000  # How many interactions of how many random users are looked at, at most
LONGEST = 200  # How many of a user's first interactions are
LAGS = 5  # How many moments ahead counts as "goes from p to a": with weight 1/lag
SHUFFLES = 5
FEWEST = 200  # With fewer decided comparisons there is no answer
EFFECT = 0.52  # A smaller share of "yes" is no order worth learning, however certain it is
LITTLE = 0.54  # Where the share is certain to be smaller, order says little
CERTAIN = 0.01  # The largest probability of the share under shuffled order at which the order counts as shown


@dataclass(frozen=True)
class OrderTest:
    """What came of it; ``sequential`` is None where there are too few comparisons to tell.

    ``share``: of the decided comparisons, those for the true next item, with its standard ``error``, users being
    independent of each other; ``shuffled``: its mean over shuffled histories; ``p``: the one-sided probability of such
    a share if order meant nothing.
    """

    sequential: bool | None
    share: float
    shuffled: float
    error: float
    p: float
    decided: int
    comparisons: int

    @property
    def words(self) -> str:
        """What came of it, in a sentence or two."""
        if self.sequential is None:
            rest = "with no clear result" if self.decided >= FEWEST else f"{FEWEST} are needed"
            return f"The log is too small to test its order: {self.decided:,} comparisons can be decided, {rest}."
        chance = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        measured = (
            f"the true next item beats a later one of the same user in {self.share:.1%} of {self.decided:,} "
            f"comparisons, in {self.shuffled:.1%} with shuffled histories ({chance})"
        )
        return f"The order of interactions {'matters' if self.sequential else 'matters little'}: {measured}."


def order_test(log: LogRows, offsets: Ints, seed: int = 0) -> OrderTest:
    """Test an ordered log with ``offsets``, the borders between its users, shape (users + 1,)."""
    random = rng.generator(seed, "check", "order")
    rows, user = _sample(offsets, random)
    item = log.item[rows]
    border = np.append(True, user[1:] != user[:-1])[: len(user)]
    if log.micros is not None:
        micros = log.micros[rows]
        border[1:] |= micros[1:] != micros[:-1]
    starts = np.flatnonzero(border)
    moments = _Moments(np.append(starts, len(user)), user[starts])
    half = random.integers(0, 2, int(user[-1]) + 1 if len(user) else 0).astype(bool)
    wins, decided, comparisons = _compare(item, moments, half, random)
    shuffled = []
    for _ in range(SHUFFLES):
        mixed = item[np.lexsort((random.random(len(user)), user))]
        mixed_wins, mixed_decided, _ = _compare(mixed, moments, half, random)
        shuffled.append(mixed_wins.sum() / max(mixed_decided.sum(), 1))
    return _judged(wins, decided, comparisons, float(np.mean(shuffled)))


@dataclass(frozen=True)
class _Moments:
    """Runs of interactions of one user and time: where each begins, and the end; whose each is."""

    starts: Ints
    user: Ints

    def draw(self, which: Ints, item: npt.NDArray[np.int32], random: np.random.Generator) -> Ints:
        """A random item of each of some moments."""
        first, length = self.starts[which], self.starts[which + 1] - self.starts[which]
        return item[first + (random.random(len(which)) * length).astype(np.int64)].astype(np.int64)


def _sample(offsets: Ints, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows of some users' histories, and the user of each, numbered anew."""
    lengths = np.minimum(np.diff(offsets), LONGEST)
    who = random.permutation(np.flatnonzero(lengths >= 3))
    who = who[np.cumsum(lengths[who]) <= INTERACTIONS]
    taken = lengths[who]
    user = np.repeat(np.arange(len(who)), taken)
    within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    return np.repeat(offsets[:-1][who], taken) + within, user


def _compare(
    item: npt.NDArray[np.int32], moments: _Moments, half: npt.NDArray[np.bool_], random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """For each user, comparisons won by the true next item and comparisons decided; and how many there were."""
    width = int(item.max()) + 1 if len(item) else 1
    users, total = len(half), 0
    wins, decided = np.zeros(users), np.zeros(users)
    last = np.searchsorted(moments.user, np.arange(users), side="right") - 1  # each user's last moment
    for tested in (False, True):
        follows = _transitions(item, moments, half != tested, width, random)
        now = np.flatnonzero(half[moments.user] == tested)
        now = now[now + 2 <= last[moments.user[now]]]
        ahead = last[moments.user[now]] - now - 1
        later = now + 2 + (random.random(len(now)) * ahead).astype(np.int64)
        p, a, b = (moments.draw(which, item, random) for which in (now, now + 1, later))
        fair = (a != b) & (p != a) & (p != b)
        total += int(fair.sum())
        if not fair.any():
            continue
        more = np.asarray(follows[p[fair], a[fair]] - follows[p[fair], b[fair]]).ravel()
        whose = moments.user[now][fair]
        wins += np.bincount(whose, more > 0, users)
        decided += np.bincount(whose, more != 0, users)
    return wins, decided, total


def _transitions(
    item: npt.NDArray[np.int32],
    moments: _Moments,
    users: npt.NDArray[np.bool_],
    width: int,
    random: np.random.Generator,
) -> Any:
    """How much (in parts of 60) each item is followed by each in the histories of some users, as a sparse matrix."""
    from scipy.sparse import csr_matrix

    follows = csr_matrix((width, width), dtype=np.int64)
    for lag in range(1, LAGS + 1):
        here = np.flatnonzero(users[moments.user[:-lag]] & (moments.user[:-lag] == moments.user[lag:]))
        places = moments.draw(here, item, random), moments.draw(here + lag, item, random)
        # Whole numbers, so that equal sums are equal.
        follows += csr_matrix((np.full(len(here), 60 // lag), places), shape=(width, width), dtype=np.int64)
    return follows


def _judged(
    wins: npt.NDArray[np.float64], decided: npt.NDArray[np.float64], comparisons: int, shuffled: float
) -> OrderTest:
    n = decided.sum()
    share = float(wins.sum() / n) if n else 0.5
    users = int((decided > 0).sum())
    spread = float(((wins - share * decided) ** 2).sum()) * users / max(users - 1, 1)
    error = math.sqrt(spread) / float(n) if n else 0.0
    z = (share - 0.5) / error if error else (math.inf if share > 0.5 else 0.0)
    p = 0.5 * math.erfc(z / math.sqrt(2))
    sequential: bool | None = None
    if n >= FEWEST and p <= CERTAIN and share >= EFFECT:
        sequential = True
    elif n >= FEWEST and share + 2.58 * error < LITTLE:
        sequential = False
    return OrderTest(sequential, share, shuffled, error, p, int(n), comparisons)
