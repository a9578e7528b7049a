"""Regression gate.

Both runs kept the score of every case. On the same cases, each metric is compared over all cases and within each slice
by a one-sided paired permutation test with users as clusters, and Holm's correction covers every comparison of the
gate: if nothing has become worse, the gate as a whole raises a false alarm with probability ``alpha`` at most. Every
metric in the files must be one where higher is better. The comparison is of fitted models: where training is left to
chance, score both runs with several seeds, whose scores are averaged, lest an unlucky seed pass for a worse model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.model_runs import FOLDER, CaseScores, read_scores
from molar_eval.slices import MINIMUM_USERS, slices_of
from molar_eval.statistics import averaged, cluster_sums, holm, sign_flip
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError

AGAIN = "make the former run again on the present data and suite: `molar evaluate`"


@dataclass(frozen=True)
class Fall:
    """A metric that is significantly lower than in the former run, over all cases or in a slice: a dimension's value.

    ``before`` and ``now`` are means over so many users, averaged over seeds; ``p`` is one-sided, corrected over the
    gate.
    """

    split: str
    model: str
    metric: str
    dimension: str | None
    value: str | None
    before: float
    now: float
    users: int
    p: float

    @property
    def difference(self) -> float:
        """``now - before``, negative."""
        return self.now - self.before

    @property
    def where(self) -> str:
        """The cases in words."""
        return "all cases" if self.dimension is None else f"{self.dimension}: {self.value}"


def gate(
    now: Path,
    before: Path,
    *,
    models: Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    fewest: int = MINIMUM_USERS,
) -> list[Fall]:
    """The significant falls of the run in ``now`` since that in ``before``, the least probable first.

    ``alpha`` is the probability of any false alarm; without ``models`` all are compared. ``fewest`` users are in a
    slice of which something is told.

    Raises:
        MissingArtefactError: If a run has no scores, or lacks a split or model that the other has.
        StaleArtefactError: If the runs scored different cases or metrics.
    """
    tested = []
    for split, model in _common(now, before, models):
        ours, theirs = (_load(run / FOLDER / split / model) for run in (now, before))
        _check_alike(ours, theirs)
        tested += list(_compare(ours, theirs, seed, fewest))
    corrected = holm(np.array([fall.p for fall in tested]))
    falls = [replace(fall, p=float(p)) for fall, p in zip(tested, corrected, strict=True) if p <= alpha]
    return sorted(falls, key=lambda fall: fall.p)


def _common(now: Path, before: Path, models: Sequence[str] | None) -> list[tuple[str, str]]:
    """Folder names of splits and models, the same in both runs."""
    found = []
    for run in (now, before):
        pairs = {(path.parent.name, path.name) for path in (run / FOLDER).glob("*/*/") if path.is_dir()}
        if models is not None:
            pairs = {pair for pair in pairs if unquote(pair[1]) in models}
        found.append(pairs)
    for run, lacking in ((now, found[1] - found[0]), (before, found[0] - found[1])):
        for split, model in sorted(lacking):
            what = f"{run} has no scores of {unquote(model)!r} on the split {split!r}, the other run has"
            raise MissingArtefactError(what, f"name the models that both runs have, or {AGAIN}")
    unknown = set(models or ()) - {unquote(model) for _, model in found[0]}
    if unknown or not found[0]:
        what = f"scores of {', '.join(sorted(unknown))}" if unknown else "scores to compare"
        raise MissingArtefactError(f"neither {now} nor {before} has {what}", "name models and runs that exist")
    return sorted(found[0])


def _load(folder: Path) -> CaseScores:
    """The scores of one model, rows in the order of case and target, values averaged over seeds."""
    seeds = [_ordered(read_scores(path)) for path in sorted(folder.glob("seed-*.parquet"))]
    if not seeds:
        raise MissingArtefactError(f"{folder} has no scores", "run `molar evaluate` first")
    for other in seeds[1:]:
        _check_alike(seeds[0], other)
    return replace(seeds[0], values=averaged([scores.values for scores in seeds]).astype(np.float32))


def _ordered(scores: CaseScores) -> CaseScores:
    keys = pa.table({"case": scores.case, "target": scores.target})
    order = np.asarray(pc.sort_indices(keys, [("case", "ascending"), ("target", "ascending")]), np.int64)
    columns = np.argsort(scores.metrics)
    return replace(
        scores,
        case=scores.case[order],
        user=scores.user.take(order),
        target=scores.target.take(order),
        metrics=tuple(scores.metrics[column] for column in columns),
        values=scores.values[np.ix_(order, columns)],
        slices=[replace(labels, codes=labels.codes[order]) for labels in scores.slices],
    )


def _check_alike(now: CaseScores, before: CaseScores) -> None:
    what = f"the split {now.split!r} of the two runs"
    if now.fingerprint != before.fingerprint:
        raise StaleArtefactError(f"{what} was made from different data or settings: they cannot be compared", AGAIN)
    if not (np.array_equal(now.case, before.case) and now.target.equals(before.target)):
        raise StaleArtefactError(f"{what} has different cases for {now.model!r}: a file is incomplete", AGAIN)
    if now.metrics != before.metrics:
        odd = ", ".join(sorted(set(now.metrics) ^ set(before.metrics)))
        raise StaleArtefactError(f"only one of the two runs has the metrics {odd} of {now.model!r}", AGAIN)


def _compare(now: CaseScores, before: CaseScores, seed: int, fewest: int) -> Iterator[Fall]:
    if not len(now.case):
        return
    users = now.users()
    difference = now.values.astype(np.float64) - before.values
    groups: list[tuple[str | None, str | None, npt.NDArray[np.bool_]]] = [(None, None, np.ones(len(users), bool))]
    for labels in now.slices:
        groups += [(s.dimension, s.value, s.mask) for s in slices_of(labels, users, minimum=fewest) if not s.too_few]
    sums = [cluster_sums(difference[mask], users[mask], int(users.max()) + 1) for *_, mask in groups]
    # A fall of no more than one standard deviation under flips has p ≥ 6/64 whatever the differences (Dvořák and Klein
    # 2022, arXiv:2104.10005): it needs no test, but counts in the correction.
    falling = [one.sum(axis=0) < -np.sqrt((one**2).sum(axis=0)) for one in sums]
    p = np.ones((len(groups), len(now.metrics)))
    columns = np.concatenate([one[:, chosen] for one, chosen in zip(sums, falling, strict=True)], axis=1)
    p[np.array(falling)] = sign_flip(columns, alternative="less", seed=seed)
    for (dimension, value, mask), row in zip(groups, p, strict=True):
        means = [scores.values[mask].mean(axis=0, dtype=np.float64) for scores in (now, before)]
        for number, metric in enumerate(now.metrics):
            ends = float(means[1][number]), float(means[0][number])
            count = len(np.unique(users[mask]))
            yield Fall(now.split, now.model, metric, dimension, value, *ends, count, float(row[number]))
