"""What shops gain by adding up statistics with noise, against each alone and against all people noised once.

    python bench/shared_statistics.py CATALOGUE WORKSPACE [--shops 2,5,20] [--runs 2] [--alone 5] [--unplanned]

The workspace has content vectors and interactions; nothing in it is changed. Its people are dealt out at random to so
many shops, which have all items, and content in the same terms. Leave-one-out as in bench/private_statistics.py: a shop
alone is asked by its own people, who need nobody else; sums of all shops are the same in each, and are asked by all.
Each run deals anew and draws noise anew. Of many shops, some are asked alone. ``sd`` is over runs, and for shops alone
over these and shops.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from private_statistics import cases_of, opened, scoring

from molar_retrieval.models.private import private_models
from molar_retrieval.models.validation import ValidationCases, gains, ranks
from molar_retrieval.privacy.dp_release import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.privacy.statistics import DPStatistics, add_statistics
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.tensors import Matrix


def quality(shops: list[DPStatistics], features: Matrix, cases: ValidationCases) -> float:
    """NDCG@10 of what shops give together."""
    total, told = add_statistics(shops[0], [(one, True) for one in shops[1:]])
    _, score = next(scoring(private_models(total, features, told=told)))
    return float(gains(ranks(cases, lambda block: score(cases.histories(block)))).mean())


def main() -> None:
    """Deal people out, release, rank and print a table, a line for each number of shops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--split", default="leave-one-out")
    parser.add_argument("--shops", default="2,5,20")
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--alone", type=int, default=5, help="most shops that are asked alone in a run")
    parser.add_argument("--unplanned", action="store_true", help="release as without `molar privacy share --shops`")
    said = parser.parse_args()
    log, features = opened(Workspace(said.workspace))
    training, cases, owner = cases_of(said.split, log)
    mechanism = GaussianMechanism.of(said.epsilon, said.delta)
    pooled = [quality([dp_release(training, features, mechanism)], features, cases) for _ in range(said.runs)]
    once = f"noised once: {np.mean(pooled):.4f}, sd {np.std(pooled, ddof=1) if said.runs > 1 else 0:.4f}"
    print(f"{training.n_users:,} people, {len(cases):,} cases, ε = {said.epsilon:g}; {once}\n")
    print("| shops | people each | one alone | sd | adding up | sd | adding up / noised once |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for count in map(int, said.shops.split(",")):
        began, alone, adding = time.process_time(), [], []
        for run in range(said.runs):
            dealt = np.random.default_rng(run).permutation(training.n_users) % count
            logs = [training.of_users(np.flatnonzero(dealt == shop)) for shop in range(count)]
            parts = [dp_release(own, features, mechanism, shops=1 if said.unplanned else count) for own in logs]
            adding.append(quality(parts, features, cases))
            for shop, own in enumerate(logs[: said.alone]):
                asked = cases.select(np.flatnonzero(dealt[owner] == shop))
                alone.append(quality([dp_release(own, features, mechanism)], features, asked))
        share = np.mean(adding) / np.mean(pooled)
        line = f"| {count} | {training.n_users // count:,} | {_told(alone)} | {_told(adding)} | {share:.0%} |"
        print(f"{line}  <!-- {time.process_time() - began:.0f} s of CPU -->", flush=True)


def _told(values: list[float]) -> str:
    spread = f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else "–"
    return f"{np.mean(values):.4f} | {spread}"


if __name__ == "__main__":
    main()
