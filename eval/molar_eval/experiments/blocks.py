"""A switchback analysed: blocks of time, in which everybody has the same arm, by what people did in them.

Only whole blocks count. A return is taken off a purchase of the same block, or of the order that it names.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.experiments.decisions import METRICS
from molar_eval.experiments.exposure import HOUR, PERSON, Ints, ItemPrices, Mask, Observed, Population, observe
from molar_eval.experiments.results import Effect
from molar_eval.experiments.switchback import BlocksCompared, compare_blocks
from molar_eval.kpi.by_day import PURCHASE
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.experiments.definition import CONTROL, TREATMENT, Experiment
from molar_retrieval.experiments.records import Look
from molar_retrieval.ids import IdMap


@dataclass(frozen=True, eq=False)
class ObservedBlocks:
    """What people did in whole blocks of time, shape (n,) where arrays are.

    Attributes:
        number: Which block, counted from 1970 on.
        treated: Whether it had the treatment.
        visitors: Who came in it.
        buyers: Of these, who bought.
        observed: What they did altogether, a row for each block.
    """

    number: Ints
    treated: Mask
    visitors: Ints
    buyers: Ints
    observed: Observed

    @property
    def people(self) -> dict[str, int]:
        """Visitors by arm; who came in two blocks counts twice."""
        return {arm: int(self.visitors[self.treated == (arm == TREATMENT)].sum()) for arm in (CONTROL, TREATMENT)}


def observed_blocks(
    experiment: Experiment,
    units: pa.Table,
    lines: Iterable[pa.Table],
    since: int,
    until: int,
    *,
    prices: ItemPrices | None = None,
    of_lists: bool = True,
) -> ObservedBlocks:
    """What people did in the whole blocks on record between two moments; arguments as of :func:`.observed.observe`."""
    length = experiment.block_hours * HOUR
    number = np.asarray(units["first"], np.int64) // length
    whole = (number * length >= since) & ((number + 1) * length <= until)
    units, number = units.filter(pa.array(whole)), number[whole]
    begin = number * length
    treated = np.asarray(pc.equal(units["arm"], TREATMENT), bool)
    blocks = Population(IdMap([str(one) for one in number.tolist()]), treated, begin, begin, 0)
    visits = _BlockVisits(length)
    observed = observe(blocks, visits.of_blocks(lines), until, prices=prices, of_lists=of_lists)
    return ObservedBlocks(number, treated, visits.visitors(number), visits.buyers(number), observed)


def block_effects(experiment: Experiment, blocks: ObservedBlocks) -> list[tuple[Effect, BlocksCompared]]:
    """All metrics that are known, per visitor, the primary one first.

    Intervals are those of one look. Ends of a lift are those of the difference, as shares of the control blocks' mean.
    """
    found = []
    for metric in sorted(METRICS, key=lambda one: one != experiment.primary):
        total = blocks.buyers if metric == "conversion" else blocks.observed.of(metric)
        if total is None:
            continue
        one = compare_blocks(blocks.number, blocks.treated, total, blocks.visitors, experiment.block_hours)
        interval = one.interval(experiment.alpha)
        if interval is not None and one.error:
            found.append((_effect(metric, one, interval, blocks), one))
    return found


def _effect(metric: str, one: BlocksCompared, interval: tuple[float, float], blocks: ObservedBlocks) -> Effect:
    low, high = interval
    by = one.control if one.control > 0 else None
    people = blocks.people
    return Effect(
        metric=metric,
        control=one.control,
        treatment=one.treatment,
        difference=one.difference,
        low=low,
        high=high,
        lift=None if by is None else one.difference / by,
        lift_low=None if by is None else low / by,
        lift_high=None if by is None else high / by,
        people=(people[CONTROL], people[TREATMENT]),
        cuped=False,
        significant=low > 0 or high < 0,
    )


def block_look(experiment: Experiment, found: Effect, one: BlocksCompared, number: int, until: int) -> Look:
    """The one look at a switchback, after all of its weeks."""
    assert one.error
    weeks = experiment.weeks
    if found.significant:
        more = found.difference > 0
        decision = "on" if more else "back"
        why = f"the treatment brings {'more' if more else 'less'} {found.metric}, by {one.days} days of pairs"
    else:
        decision, why = "stop", f"no difference of {found.metric} is seen after {weeks} weeks"
    away = (found.high - found.low) / 2 / one.error
    facts = {"week": weeks, "people": list(found.people), "low": found.low, "high": found.high, "why": [why]}
    facts |= {"difference": found.difference, "left_out": one.left_out}
    statistic = one.difference / one.error
    return Look(number, until, "ab", found.metric, 1.0, experiment.alpha, statistic, away, decision, facts)


class _BlockVisits:
    """Who came in which block, and bought, each once."""

    def __init__(self, length: int) -> None:
        self._length, self._people = length, Codes()
        nothing = np.zeros((0, 2), np.int64)
        self._came, self._bought = [nothing], [nothing]

    def of_blocks(self, lines: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same lines with their block in place of their person."""
        for table in lines:
            block = table["timestamp"].to_numpy() // self._length
            who = self._people.encode(table[PERSON].combine_chunks().cast(pa.string())).astype(np.int64)
            pairs = np.stack([block, who], axis=1)
            self._came.append(np.unique(pairs, axis=0))
            bought = np.asarray(pc.equal(table["event"], PURCHASE), bool)
            self._bought.append(np.unique(pairs[bought], axis=0))
            yield table.set_column(table.column_names.index(PERSON), PERSON, pa.array(block).cast(pa.large_string()))

    def visitors(self, number: Ints) -> Ints:
        """How many came in each block."""
        return _counted(self._came, number)

    def buyers(self, number: Ints) -> Ints:
        """How many bought in each block, whether or not they sent it back."""
        return _counted(self._bought, number)


def _counted(pairs: list[Ints], number: Ints) -> Ints:
    blocks, counts = np.unique(np.unique(np.concatenate(pairs), axis=0)[:, 0], return_counts=True)
    known = dict(zip(blocks.tolist(), counts.tolist(), strict=True))
    return np.array([known.get(one, 0) for one in number.tolist()], np.int64)
