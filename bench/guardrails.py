"""How soon guardrails see that people click less, and how often they see what is not there.

Visitors of the treated arm come one by one, and after each of them one looks. A share of visitors clicks, in control;
the treated click a fifth less, or as often. Four methods at a chance of 1 % of a false alarm, to one side:

* mixture: what molar takes, :func:`molar_eval.experiments.sequential.difference_sequence`;
* e-process: of two streams of zeros and ones, with shares learnt on the way (Turner, Ly and Grünwald 2024,
  doi:10.1016/j.jspi.2023.106116);
* two sequences: the empirical Bernstein one of each arm (Waudby-Smith and Ramdas 2024, doi:10.1093/jrsssb/qkad009);
* fixed: the test for one look, at every one of them.

    python bench/guardrails.py [--runs 4000]
"""

import argparse
from collections.abc import Callable
from math import log

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import norm

from molar_eval.experiments.sequential import ALPHA, FEWEST, ArmSums, difference_sequence, tuned_to

TREATED = 2_000  # visitors
HARM = 0.1  # of what control does: less than this is tolerated
TYPICAL = 0.21  # the variance of a share of 30 %, for which the bounds are tuned, whatever the share is
_PIECE = 100  # runs at a time
Floats = npt.NDArray[np.float64]
Alarm = Callable[[Floats, Floats, int], npt.NDArray[np.bool_]]


def mixture(control: Floats, treated: Floats, others: int) -> npt.NDArray[np.bool_]:
    """Whether there is an alarm after each visitor, by counts so far of people who clicked, shape (runs, visitors)."""
    count = np.arange(1.0, treated.shape[1] + 1)
    bounds = difference_sequence(
        ArmSums.of_shares(count * others, control),
        ArmSums.of_shares(count, treated),
        tuned=tuned_to(treated.shape[1], TYPICAL, 1 / others),
    )
    return bounds.less(HARM * control / (count * others))


def e_process(control: Floats, treated: Floats, others: int) -> npt.NDArray[np.bool_]:
    """The same; each treated visitor and those of control who come with them are a block."""
    count = np.arange(treated.shape[1])
    before = [np.pad(arm, ((0, 0), (1, 0)))[:, :-1] for arm in (control, treated)]
    usual = (before[0] + 1) / (count * others + 2)
    less = np.minimum((before[1] + 1) / (count + 2), usual)
    null = (others * usual + less) / (others + 1)
    hits = [np.diff(arm, axis=1, prepend=0) for arm in (control, treated)]
    gains = (
        xlogy(hits[0], usual / null)
        + xlogy(others - hits[0], (1 - usual) / (1 - null))
        + xlogy(hits[1], less / null)
        + xlogy(1 - hits[1], (1 - less) / (1 - null))
    )
    return np.cumsum(gains, axis=1) >= log(1 / ALPHA)


def two_sequences(control: Floats, treated: Floats, others: int) -> npt.NDArray[np.bool_]:
    """The same, where an upper bound of the treated arm is below a lower one of control."""
    highest = _bernstein(np.diff(treated, axis=1, prepend=0), 1)
    lowest = _bernstein(np.diff(control, axis=1, prepend=0) / others, -1, others)
    return np.minimum.accumulate(highest, axis=1) < np.maximum.accumulate(lowest, axis=1)


def _bernstein(values: Floats, side: int, of: int = 1) -> Floats:
    """Bounds of the mean of values in [0, 1]; of means of ``of`` people, as if their sum had this little variance."""
    count = np.arange(1, values.shape[1] + 1)
    mean = (0.5 + np.cumsum(values, axis=1)) / (count + 1)
    spread = (0.25 / of + np.cumsum((values - mean) ** 2, axis=1)) / (count + 1)
    known = [
        np.pad(each, ((0, 0), (1, 0)), constant_values=first)[:, :-1]
        for each, first in ((mean, 0.5), (spread, 0.25 / of))
    ]
    level = log(2 / ALPHA)
    bet = np.minimum(np.sqrt(2 * level / (known[1] * count * np.log1p(count))), 0.5)
    cost = np.cumsum((values - known[0]) ** 2 * (-np.log1p(-bet) - bet), axis=1)
    total = np.cumsum(bet, axis=1)
    return np.cumsum(bet * values, axis=1) / total + side * (level + cost) / total


def fixed(control: Floats, treated: Floats, others: int) -> npt.NDArray[np.bool_]:
    """The same by a test that is made for one look."""
    count = np.arange(1.0, treated.shape[1] + 1)
    whole = (control + treated) / (count * (others + 1))
    error = np.sqrt(whole * (1 - whole) * (1 / count + 1 / (count * others)))
    gap = treated / count - control / (count * others)
    return (gap < -norm.isf(ALPHA) * error) & (count >= FEWEST)


METHODS: dict[str, Alarm] = {
    "mixture": mixture, "e-process": e_process, "two sequences": two_sequences, "fixed": fixed
}  # fmt: skip


def alarms(
    method: Alarm, share: float, lift: float, others: int, runs: int, people: int = TREATED
) -> tuple[float, float | None]:
    """In which share of runs there is an alarm, and the median visitor of it."""
    rng, at = np.random.default_rng(7), []
    for _ in range(runs // _PIECE):
        treated = np.cumsum(rng.random((_PIECE, people)) < share * (1 + lift), axis=1, dtype=float)
        control = np.cumsum(rng.binomial(others, share, (_PIECE, people)), axis=1, dtype=float)
        found = method(control, treated, others)
        at += list(np.argmax(found, axis=1)[found.any(axis=1)] + 1)
    return len(at) / (runs // _PIECE * _PIECE), float(np.median(at)) if at else None


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4_000)
    runs = parser.parse_args().runs
    print("| people of control to one treated | share who click | found, 20 % fewer | median visitor | false |")
    print("|---:|---:|---:|---:|---:|")
    for others in (1, 10, 19):
        for share in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
            found, middle = alarms(mixture, share, -0.2, others, runs)
            false, _ = alarms(mixture, share, 0.0, others, runs)
            print(f"| {others} | {share:.0%} | {found:.1%} | {middle or 0:,.0f} | {false:.2%} |", flush=True)
    print("\n| method | 1 to 1, 30 % | 10 to 1, 20 % | false, 1 to 1, 30 % | false, 10 to 1, 20 % |")
    print("|---|---:|---:|---:|---:|")
    for name, method in METHODS.items():
        parts = [
            alarms(method, share, lift, others, runs)[0]
            for lift in (-0.2, 0.0)
            for others, share in ((1, 0.3), (10, 0.2))
        ]
        print(f"| {name} | {' | '.join(f'{part:.1%}' for part in parts)} |", flush=True)


if __name__ == "__main__":
    main()
