"""Full ranking and metrics of `molar evaluate` beside ranx, on the same made-up vectors of the size of MovieLens-1M.

    python bench/ranking.py [--users 6040] [--items 3706] [--dim 128] [--rounds 5] [--json]

Ours is timed from the vectors on: dot products, hiding of seen items, the rank of every target among all items, lists
of 50, and all metrics of accuracy and of lists at 10, 20 and 50. ranx gets those lists and computes the accuracy
metrics at the same cutoffs; neither ranking nor building its `Run` and `Qrels` nor compiling is counted against it. The
line "accuracy alone" times the same step of ours, from the ranks. Both must find the same figures.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from molar_eval.cases import Cases
from molar_eval.metrics import ACCURACY, ListContext, accuracy, list_metrics
from molar_eval.ranking import Ranked, rank_vectors
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap

CUTOFFS = (10, 20, 50)
TARGET = 1.5
MEAN_HISTORY = 165


def problem(n_users: int, n_items: int, dim: int) -> tuple[Cases, np.ndarray, np.ndarray, ListContext]:
    """Histories of random length whose last item is the target, vectors that lean towards it, content and genres."""
    random = rng.generator(0, "bench", "ranking")
    length = random.integers(2, min(2 * MEAN_HISTORY, n_items), n_users)
    offsets = np.concatenate([[0], np.cumsum(length)])
    item = np.concatenate([random.choice(n_items, n, replace=False) for n in length]).astype(np.int32)
    users, names = (IdMap([str(number) for number in range(n)]) for n in (n_users, n_items))
    log = Interactions(users, names, offsets, item, np.zeros(len(item), np.int64))
    target = item[offsets[1:] - 1]
    items = random.standard_normal((n_items, dim), dtype=np.float32)
    vectors = 0.3 * items[target] + random.standard_normal((n_users, dim), dtype=np.float32)
    content = random.standard_normal((n_items, 256), dtype=np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    genres = np.arange(n_items + 1) * 2, random.integers(0, 18, 2 * n_items)
    training = log.without_last(np.arange(n_users))
    context = ListContext.of(training, np.ones(n_items, bool), "hide", content, genres)
    return Cases.single(log, np.arange(n_users), length - 1, target), vectors, items, context


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def ranx_seconds(cases: Cases, ranked: Ranked, ours: dict[str, np.ndarray], rounds: int) -> float | None:
    """Median seconds of ranx on our lists, None without ranx.

    Raises:
        SystemExit: If it finds other figures than we do.
    """
    try:
        import ranx
    except ImportError:
        return None
    warnings.simplefilter("ignore")  # of numba, about its own casts
    right = {f"{case:06d}": {str(item): 1} for case, item in enumerate(cases.targets.tolist())}
    run = {
        f"{case:06d}": {str(item): float(score) for item, score in zip(items, scores, strict=True) if item >= 0}
        for case, (items, scores) in enumerate(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
    }
    qrels, lists, names = ranx.Qrels(right), ranx.Run(run), [f"{name}@{k}" for name in ACCURACY for k in CUTOFFS]
    found = ranx.evaluate(qrels, lists, names)
    for name in names:
        if abs(found[name] - ours[name].mean(dtype=np.float64)) > 1e-6:
            raise SystemExit(f"{name}: ranx finds {found[name]}, we find {ours[name].mean()}")
    return median_seconds(lambda: ranx.evaluate(qrels, lists, names), rounds)


def measure(n_users: int = 6040, n_items: int = 3706, dim: int = 128, rounds: int = 5) -> dict[str, Any]:
    cases, users, items, context = problem(n_users, n_items, dim)

    def whole() -> tuple[Ranked, dict[str, np.ndarray]]:
        ranked = rank_vectors(cases, users, items, k=max(CUTOFFS), candidates=context.candidates)
        found = accuracy(ranked.ranks, cases.offsets, CUTOFFS)
        list_metrics(ranked, cases, context, CUTOFFS)
        return ranked, found

    ranked, found = whole()
    return {
        "users": n_users,
        "items": n_items,
        "dim": dim,
        "whole": median_seconds(whole, rounds),
        "accuracy": median_seconds(lambda: accuracy(ranked.ranks, cases.offsets, CUTOFFS), rounds),
        "ranx": ranx_seconds(cases, ranked, found, rounds),
        "target": TARGET,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What, measured, compared to, ratio."""
    size, ranx = f"{result['users']:,} x {result['items']:,}", result["ranx"]
    other = "ranx is not installed" if ranx is None else f"ranx evaluate, lists given {ranx:.3f}"
    lines = {"whole": f"rank {size} and all metrics, s", "accuracy": "  accuracy alone, ranks given, s"}
    return [
        (what, f"{result[key]:.3f}", other, "" if ranx is None else f"{result[key] / ranx:.3g}")
        for key, what in lines.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=6040)
    parser.add_argument("--items", type=int, default=3706)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.users, arguments.items, arguments.dim, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    for what, measured, other, ratio in rows(result):
        print(f"{what:48} {measured:>8}   {other}   {ratio}")
    print(f"target for the first line: {result['target']} s on 2 cores")


if __name__ == "__main__":
    main()
