"""What lists are worth that are made of statistics under differential privacy, by ε and by how many people there are.

    python bench/private_statistics.py CATALOGUE WORKSPACE [--cells 4x1,8x1,1x100] [--runs 3] [--part popularity]

The workspace has content vectors and interactions; nothing in it is changed. Leave-one-out over the whole catalogue,
items that were had hidden; the release reads the training part alone, and no case chooses anything. A cell is an ε and
how many times the people there are: more people who do the same are the same sums with less noise, so what is measured
is the noise, not what other people would do. Each run draws noise anew; the interval of 95 % is of the first run, over
cases. Without noise (∞) the parts are the same; what is left of it is told with an interval of 95 % over people, the
mean over runs of each case (bootstrap-t). ``popularity`` is the popular list alone, and is compared with plain counts
of people as well, also without noise; ``looks`` takes nobody else; of a ``--part`` nothing else is measured. With
``--back 4`` four things before the test's are asked for too, the last but one, three, five and seven, each by what came
before it, and all cases are told of together.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from molar_eval.splits import make_split
from molar_eval.statistics import clustered_ratio
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models import content_features
from molar_retrieval.models.content_knn import ContentKNN
from molar_retrieval.models.item_item import binary
from molar_retrieval.models.private import PrivateModels, private_models
from molar_retrieval.models.validation import ValidationCases, gains, ranks
from molar_retrieval.privacy.dp_release import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Matrix, Rows

CELLS = "1x1,2x1,4x1,8x1,1x10,2x10,4x10,8x10,1x100,2x100,4x100,8x100"
Gains = np.ndarray
Scoring = Callable[[Interactions], Matrix]


def opened(workspace: Workspace) -> tuple[Interactions, Matrix]:
    """The log, and the features of all items."""
    folder, manifest = workspace["catalogue"].require()
    content = ContentVectors.open(workspace["content"].require()[0])
    attributes = hashed_features(Catalogue.open(folder))
    keep = AlignSettings().content_components
    conditioner = content_features.fit(content.vectors, content.blocks, keep, attributes, ready=content.conditioned)
    log = Interactions.open(workspace["interactions"].require()[0], Catalogue(folder, manifest).ids)
    return log, conditioner(content.vectors, attributes)


def cases_of(split_name: str, log: Interactions, back: int = 0) -> tuple[Interactions, ValidationCases, Rows]:
    """What is released, what is asked, each right item with the history before it, and of which row of the log.

    What is asked came last or, further ``back``, was the last but one, but three, but five …
    """
    for _ in range(1, back):
        log = make_split(split_name, log, {}).training
    split = make_split(split_name, log, {})
    (test,) = split.tests.values() if not back else (split.validation,)
    which = np.repeat(np.arange(len(test.user)), np.diff(test.offsets))
    start, length = test.history.offsets[test.user[which]], np.asarray(test.length, np.int64)[which]
    asked = test.history.before(start + length)
    targets, every = test.targets.astype(np.int64), np.ones(log.n_items, bool)
    cases = ValidationCases(asked, np.arange(len(which)), targets, every, asked.asked_at)
    return split.training, cases, np.asarray(test.user, np.int64)[which]


def counted(log: Interactions, cases: ValidationCases) -> Gains:
    """NDCG@10 of every case by how many people had each item."""
    plain = np.asarray(binary(log).sum(axis=0), np.float32).reshape(1, -1)
    return gains(ranks(cases, lambda block: np.tile(plain, (len(cases.users[block]), 1))))


def scoring(counts: PrivateModels) -> Iterator[tuple[str, Scoring]]:
    """The sum, and its parts, as ways to score."""
    weights = counts.weights
    (sequence,), knn = counts.item_item, counts.content_knn
    popularity = counts.popularity.now()[None]

    def total(log: Interactions) -> Matrix:
        scores = weights["content_knn"] * knn.scores(log) + weights["popularity"] * popularity
        return (scores + weights["sequential"] * sequence.scores(log) if sequence.weights.nnz else scores).astype(
            np.float32
        )

    yield "all", total
    yield "pairs", sequence.scores
    yield "popularity", lambda log: np.tile(popularity, (log.n_users, 1))
    yield "looks", ContentKNN(knn.items, knn.decay, knn.last).scores


def measured(counts: PrivateModels, cases: ValidationCases, only: str = "all") -> dict[str, Gains]:
    """NDCG@10 of every case, by part; ``all``: of the sum and of each."""
    return {
        name: gains(ranks(cases, lambda b, s=score: s(cases.histories(b))))
        for name, score in scoring(counts)
        if only in ("all", name)
    }


def main() -> None:
    """Release, rank and print a table, a line for each ε and number of people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--split", default="leave-one-out")
    parser.add_argument("--cells", default=CELLS, help="each an ε and how many times the people")
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--back", type=int, default=0)
    parser.add_argument("--part", default="all", choices=("all", "pairs", "popularity", "looks"))
    said = parser.parse_args()
    log, features = opened(Workspace(said.workspace))
    asked = [cases_of(said.split, log, back) for back in range(said.back + 1)]
    people = int(np.count_nonzero(np.diff(asked[0][0].offsets)))
    users = np.concatenate([rows for _, _, rows in asked])
    plain = np.concatenate([counted(training, cases) for training, cases, _ in asked])
    print(f"{people:,} people, {len(users):,} cases; by plain counts {plain.mean():.4f}\n")
    of = "of ∞ | of counts" if said.part == "popularity" else "of ∞"
    print(f"| ε | people | people / σ | NDCG@10 | ± sd | 95 % | {of} | Recall@10 | pairs | popularity | looks |")
    print(f"|---|---:|---:|---:|---:|---|{'---:|' * (1 + of.count('|'))}---:|---:|---:|---:|", flush=True)
    whole = None
    for epsilon, factor in [(math.inf, 1.0), *(map(float, cell.split("x")) for cell in said.cells.split(","))]:
        least = (
            GaussianMechanism.of(epsilon, said.delta)
            if math.isfinite(epsilon)
            else GaussianMechanism(epsilon, said.delta, 0.0)
        )
        mechanism = GaussianMechanism(epsilon, said.delta, least.sigma / factor)
        runs, kept, began = [], 0, time.process_time()
        for _ in range(said.runs if least.sigma else 1):
            found = []
            for training, cases, _ in asked:
                released = dp_release(training, features, mechanism)
                found.append(measured(private_models(released, features), cases, said.part))
                kept = released.pairs.nnz
            runs.append({name: np.concatenate([one[name] for one in found]) for name in found[0]})
        means = {name: np.array([run[name].mean() for run in runs]) for name in runs[0]}
        first, each = runs[0][said.part], np.mean([run[said.part] for run in runs], axis=0)
        whole = first if whole is None else whole
        against = (whole, plain)[: 1 + of.count("|")]
        left = [clustered_ratio(each, one, users) for one in against]
        half = 1.96 * first.std() / math.sqrt(len(first))
        cells = [
            "∞" if not least.sigma else f"{epsilon:g}",
            f"× {factor:g}",
            "∞" if not least.sigma else f"{people / mechanism.sigma:,.0f}",
            f"{each.mean():.4f}",
            f"{means[said.part].std(ddof=1):.4f}" if len(runs) > 1 else "–",
            f"{first.mean() - half:.4f} to {first.mean() + half:.4f}",
            *(f"{one.mean:.1%} ({one.low:.0%} to {one.high:.0%})" for one in left),
            f"{np.mean([(run[said.part] > 0).mean() for run in runs]):.4f}",
            f"{kept:,}",
            *(f"{means[name].mean():.4f}" if name in means else "–" for name in ("popularity", "looks")),
        ]
        print(f"| {' | '.join(cells)} |  <!-- {time.process_time() - began:.0f} s of CPU -->", flush=True)


if __name__ == "__main__":
    main()
