"""EASE in blocks beside EASE as one matrix, item neighbours and SANSA: NDCG@10 of validation, and what they take.

    python bench/block_ease.py [--items 20000 --users 40000 --mean 50] [--first] [--whole] [--sansa PYTHON]
    python bench/block_ease.py --workspace ml-1m/.molar --whole
    python bench/block_ease.py --items 1000000 --users 1000000 --mean 60 --only 300

The log is made up, of users with a few tastes each, or that of a workspace; held out is the last interaction of people
as `molar align` does it, nothing of a test is looked at. Every model keeps 200 partners of an item. With ``--only`` so
many blocks, drawn at random, tell the time that all would take, and nothing is ranked.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, load_npz, save_npz

from molar_retrieval.data.interactions import Holdout, Interactions, holdout_last
from molar_retrieval.ids import IdMap
from molar_retrieval.models import base, ease
from molar_retrieval.models.als import held_out
from molar_retrieval.models.ease import BlockEASE
from molar_retrieval.models.item_item import InteractionMatrix, ItemItemWeights, binary, countable
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import SplitSettings

NEIGHBORS = 200
_TASTE, _TASTES, _ANYTHING = 40, 4, 0.15
"""Items of a taste, tastes of a user, share of what is taken whatever the taste."""


def made_up(users: int, items: int, mean: float, seed: int = 0) -> Interactions:
    """A log of users with a few tastes each; items by Zipf's law within a taste and in all, no item twice."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.exp(random.normal(np.log(mean) - 0.5, 1, users)), 2, 2000).astype(np.int64)
    user, n = np.repeat(np.arange(users), lengths), int(lengths.sum())
    tastes = max(1, items // _TASTE)
    borders = np.linspace(0, items, tastes + 1).astype(np.int64)
    own = random.permutation(tastes)[(tastes ** random.random((users, _TASTES))).astype(np.int64) - 1]
    taste = own[user, np.minimum((_TASTES * random.random(n) ** 1.7).astype(int), _TASTES - 1)]
    place = ((borders[taste + 1] - borders[taste] + 1) ** random.random(n)).astype(np.int64) - 1
    item = np.minimum(borders[taste] + place, borders[taste + 1] - 1)
    anything = random.random(n) < _ANYTHING
    item[anything] = (items ** random.random(np.count_nonzero(anything))).astype(np.int64) - 1
    item = random.permutation(items)[item]
    first = np.sort(np.unique(user * items + item, return_index=True)[1])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user[first], minlength=users))])
    names = (IdMap([str(number) for number in range(count)]) for count in (users, items))
    return Interactions(*names, offsets, item[first].astype(np.int32), np.zeros(len(first), np.int64))


class Bench:
    """Models of one held-out log, a line each."""

    def __init__(self, holdout: Holdout, first: bool) -> None:
        self.log, self.cases, self.first = countable(holdout.training), ValidationCases.of(holdout), first
        print("| model | NDCG@10 | processor, s | by the clock, s | processor, ms per item |")
        print("|---|---:|---:|---:|---:|")

    def tell(self, name: str, watch: Timer, weights: csr_matrix) -> None:
        """A line of the table."""
        took, expert = watch.took, ItemItemWeights("ease", weights)
        score = ndcg(ranks(self.cases, lambda block: expert.scores(self.cases.histories(block))))
        each = 1000 * took.processor / self.log.n_items
        print(f"| {name} | {score:.4f} | {took.processor:.1f} | {took.seconds:.1f} | {each:.2f} |", flush=True)

    def blocks(self) -> None:
        """EASE in blocks with all its settings, counting and grouping included; and neighbours."""
        for setting in base.BLOCKS[: 1 if self.first else None]:
            watch = Timer()
            groups = BlockEASE.of(InteractionMatrix.of(self.log), setting["n_neighbors"])
            weights = base.block_ease(groups, setting, NEIGHBORS).weights
            self.tell(f"blocks of {setting['neighbours']:,}, λ = {setting['regularisation']}", watch, weights)
        watch = Timer()
        self.tell("item-kNN", watch, base.item_neighbours(self.log, base.NEIGHBOURS, NEIGHBORS).weights)

    def whole(self) -> None:
        """EASE as one matrix."""
        for value in base.REGULARISATIONS[: 1 if self.first else None]:
            watch = Timer()
            counts = ease.EASECounts.of(self.log)
            made = base.ease(counts, {"regularisation": value}, NEIGHBORS, self.log.n_items)
            self.tell(f"one matrix, λ = {value}", watch, made.weights)

    def sansa(self, python: Path) -> None:
        """SANSA, whose factors have as many weights as the partners have, and four times as many."""
        for times in (1,) if self.first else (1, 4):
            with tempfile.TemporaryDirectory() as folder:
                asked = {"regularisation": base.REGULARISATIONS[0], "density": times * NEIGHBORS / self.log.n_items}
                (Path(folder) / "asked.json").write_text(json.dumps(asked), "utf-8")
                save_npz(Path(folder) / "taken.npz", binary(self.log))
                subprocess.run([python, Path(__file__).with_name("sansa_fit.py"), folder], check=True)
                took = json.loads((Path(folder) / "took.json").read_text("utf-8"))
                first, second = (load_npz(Path(folder) / f"{name}.npz") for name in ("first", "second"))
            taken = binary(self.cases.histories())
            score = ndcg(ranks(self.cases, lambda block, t=taken, f=first, s=second: (t[block] @ f @ s).toarray()))
            each = 1000 * took["processor"] / self.log.n_items
            print(
                f"| SANSA, {asked['density']:.2%} of the weights | {score:.4f} | {took['processor']:.1f} |"
                f" {took['seconds']:.1f} | {each:.2f} |",
                flush=True,
            )


def timed(log: Interactions, only: int) -> None:
    """What all blocks would take, by a few of them."""
    watch = Timer()
    groups = BlockEASE.of(InteractionMatrix.of(log), base.BLOCKS[0]["n_neighbors"])
    groups.taken.among(groups.groups[0])
    counted, known = watch.took, int(np.count_nonzero(groups.taken.counts))
    drawn = np.random.default_rng(0).choice(len(groups.groups), min(only, len(groups.groups)), replace=False)
    few = BlockEASE(groups.taken, groups.neighbours, [groups.groups[number] for number in drawn])
    watch = Timer()
    few.weights(base.BLOCKS[0]["regularisation"], NEIGHBORS)
    took = watch.took * (len(groups.groups) / len(drawn))
    print(f"{len(log):,} interactions, {known:,} items: counting, grouping {counted.processor:.0f} s of a processor,")
    print(f"all blocks {took.processor:,.0f} s by {len(drawn)} of them: {1000 * took.processor / known:.2f} ms an item")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=40_000)
    parser.add_argument("--mean", type=float, default=50, help="interactions of a user, about")
    parser.add_argument("--workspace", type=Path, help="a workspace whose log is taken instead")
    parser.add_argument("--first", action="store_true", help="only the first setting of each model")
    parser.add_argument("--whole", action="store_true", help="EASE as one matrix as well")
    parser.add_argument("--sansa", type=Path, help="the Python of an environment with sansa")
    parser.add_argument("--only", type=int, help="only the time, by so many blocks")
    asked = parser.parse_args()
    log = None if asked.workspace else made_up(asked.users, asked.items, asked.mean)
    if asked.only and log is not None:
        timed(log, asked.only)
        return
    holdout = held_out(Workspace(asked.workspace), SplitSettings()) if log is None else holdout_last(log, 5000, 0)
    bench = Bench(holdout, asked.first)
    bench.blocks()
    if asked.whole:
        bench.whole()
    if asked.sansa:
        bench.sansa(asked.sansa)


if __name__ == "__main__":
    main()
