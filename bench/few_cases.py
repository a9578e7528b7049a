"""What weights find that were chosen by few validation cases, among the cases that did not choose.

    python bench/few_cases.py CATALOGUE WORKSPACE [--first 50 all] [--cases 94 200 600] [--draws 12] [--most 1200]
                              [--tower "preset=fast"]

The parts are those of `molar align` on the training of the leave-one-out split: what counts, and with ``--tower`` the
towers by these settings. So many cases are drawn anew each time, and those left judge by NDCG@10: the best part alone,
the logit among the ``--first`` items of each part, the peak of the ascent from it, and what would ship. Nothing of a
test is looked at. The workspace needs content vectors and prepared interactions, and stays as it is.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from towers import data_of, settings_of

from molar_retrieval import rng
from molar_retrieval.models import blending
from molar_retrieval.models.base import count_models
from molar_retrieval.models.blending import Dense, ScoreCache, ScoredBlock, Weights, scored
from molar_retrieval.models.towers.training import sized, train
from molar_retrieval.models.validation import drawn, gains
from molar_retrieval.models.vectors import encode_users, item_sides
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings


def cache_of(catalogue: Path, workspace: Path, most: int, tower: str | None) -> ScoreCache[ScoredBlock]:
    """The scores of the parts for so many validation cases."""
    data = data_of(Workspace.for_catalogue(workspace, catalogue))
    cases = data.cases.select(drawn(len(data.cases), most, rng.generator(1, "few cases")))
    parts = count_models(data.log, cases, data.features, AlignSettings()).parts(cases)
    if tower is not None:
        with tempfile.TemporaryDirectory() as folder:
            network, _ = train(data, sized(settings_of(tower), data.log), Path(folder), "bench")
        users = encode_users(network, cases.histories(), np.arange(len(cases)), precision="float32")
        parts = {**{name: Dense(users[name], side) for name, side in item_sides(network, data.warm).items()}, **parts}
    return ScoreCache(len(parts), list(scored(cases, parts)), complete=True)


def some(cache: ScoreCache[ScoredBlock], rows: np.ndarray) -> ScoreCache[ScoredBlock]:
    """The cache of some of its cases."""
    blocks = cache.blocks
    scores = np.concatenate([block.scores for block in blocks], axis=1)[:, rows]
    hidden, targets = (np.concatenate(own)[rows] for own in zip(*((b.hidden, b.targets) for b in blocks), strict=True))
    return ScoreCache(cache.parts, [ScoredBlock(scores, hidden, targets)], complete=True)


def chosen(cache: ScoreCache[ScoredBlock]) -> dict[str, Weights]:
    """Weights by all cases of a cache, in several ways."""
    best = max(np.eye(cache.parts), key=cache.ndcg)
    drawn_in, peak = blending.found_by(cache, best, len(cache))
    shipped = next((one for one in (drawn_in, peak) if cache.ndcg(one) > cache.ndcg(best)), best)
    return {"best part": best, "logit": blending.logit(cache), "peak": peak, "shipped": shipped}


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, choose, judge, and print means and standard errors over the draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--first", nargs="+", default=["50", "all"])
    parser.add_argument("--cases", nargs="+", type=int, default=[94, 200, 600])
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--most", type=int, default=1200)
    parser.add_argument("--tower")
    given = parser.parse_args(argv)
    cache = cache_of(given.catalogue, given.workspace, given.most, given.tower)
    for cases in (number for number in given.cases if number < len(cache)):
        for first in given.first:
            blending.FIRST = cache.blocks[0].hidden.shape[1] if first == "all" else int(first)
            found: dict[str, list[float]] = {}
            for draw in range(given.draws):
                rows = np.random.default_rng([cases, draw]).permutation(len(cache))
                for name, weights in chosen(some(cache, rows[:cases])).items():
                    judged = gains(cache.ranks(weights))[rows[cases:]]
                    found.setdefault(name, []).append(float(judged.mean()))
            words = (f"{k} {np.mean(v):.4f} ± {np.std(v) / len(v) ** 0.5:.4f}" for k, v in found.items())
            print(f"{cases} of {len(cache)} cases, first {first}: {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
