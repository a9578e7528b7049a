"""What pairs of contents add to content neighbours, on items that play newcomers.

    python bench/content_pairs.py CATALOGUE WORKSPACE

Nothing but training interactions is read. Three times a tenth of the known items is withheld; people's first
interactions with these are to be foretold among the withheld ones, by guessed popularity and by content: as it is, by
what the others tell of pairs of contents, and by both; and the same of content as people taught it. Weights are chosen
as `molar align` does, on one half of the people, and judged on the other, both ways round. Histories are read as --last
and --decay say, by default in the way that `molar align` takes for MovieLens-1M; for content kNN alone, the bar,
in that which finds most. The workspace needs prepared interactions and, without --words, content vectors (`molar
align`), and stays as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from future_items import features_of

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.als import held_out
from molar_retrieval.models.blending import Dense, blend, ranked
from molar_retrieval.models.cold_start import among, content_pairs, guessed
from molar_retrieval.models.content_features import words_alone
from molar_retrieval.models.content_knn import GRID, ContentKNN, compressed, learned_axes
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import ValidationCases, means, taken, withheld_items
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings, SplitSettings
from molar_retrieval.workspace.tensors import Mask, Matrix

_SEEDS = range(3)
_CHOICES = (
    *(("content",), ("content", "popularity"), ("pairs", "popularity"), ("content", "pairs", "popularity")),
    *(("taught content", "popularity"), ("taught content", "pairs of it", "popularity")),
)
Found = dict[str, tuple[float, float]]


def bar(features: Matrix, asked: ValidationCases, told: ValidationCases, withheld: Mask) -> tuple[float, float]:
    """NDCG@10 and Recall@10 of content neighbours by the way to read a history that finds most."""
    found = []
    for way in GRID:
        neighbours = ContentKNN.of(features, way["decay"], way["last"])
        part = {"content": Dense(neighbours.users(asked.histories()), neighbours.items[withheld])}
        found.append(tuple(means(ranked(told, part, [{"content": 1.0}])[0]).values()))
    return max(found)


def folded(cases: ValidationCases, parts: dict[str, Dense], seed: int) -> tuple[float, float]:
    """NDCG@10 and Recall@10 by weights that the other half of the people chose; cases are in the order of people."""
    halves, found = np.array_split(np.arange(len(cases)), 2), []
    for told, judged in (halves, halves[::-1]):
        chosen, own = ({n: Dense(p.users[h], p.items) for n, p in parts.items()} for h in (told, judged))
        weights = blend(cases.select(told), chosen, seed).weights
        found.append(ranked(cases.select(judged), own, [weights])[0])
    return tuple(means(np.concatenate(found)).values())


def measured(log: Interactions, features: Matrix, last: int, decay: float, seed: int) -> Found:
    """What each choice of parts finds for one draw of newcomers."""
    known, counts = known_items(log), np.bincount(log.item, minlength=log.n_items)
    withheld = withheld_items(known, seed)
    asked, neighbours = taken(log, withheld, seed), ContentKNN.of(features, decay, last)
    told, users, content = among(asked, withheld), neighbours.users(asked.histories()), neighbours.items[withheld]
    popularity, _ = guessed(features, np.log1p(counts).astype(np.float32)[:, None], counts, known, withheld)
    watch = Timer()
    others = log.select(~withheld[log.item])
    pairs = content_pairs(others, neighbours, seed)
    print(f"pairs: {watch.took.processor:.1f} s of the processor", flush=True)
    watch = Timer()
    axes = learned_axes(features, others)
    print(f"taught axes: {watch.took.processor:.1f} s of the processor", flush=True)
    taught = ContentKNN(compressed(features, axes), decay, last, axes=axes)
    their_users, their_content, of_it = (
        taught.users(asked.histories()), taught.items[withheld], content_pairs(others, taught, seed)
    )  # fmt: skip
    assert pairs is not None
    assert of_it is not None
    parts = {
        "content": Dense(users, content),
        "pairs": Dense(users, content @ pairs.T),
        "taught content": Dense(their_users, their_content),
        "pairs of it": Dense(their_users, their_content @ of_it.T),
        "popularity": Dense(np.ones((len(asked), 1), np.float32), popularity),
    }
    found = {f"{', '.join(own)}": folded(told, {n: parts[n] for n in own}, seed) for own in _CHOICES}
    return {"content, the best way to read a history": bar(features, asked, told, withheld)} | found


def main() -> None:
    """Print a line for each choice of parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--words", action="store_true", help="by words and attributes alone")
    parser.add_argument("--last", type=int, default=10)
    parser.add_argument("--decay", type=float, default=0.8)
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    log = held_out(workspace, SplitSettings()).training
    dims = AlignSettings().content_components
    if asked.words:
        features = words_alone(Catalogue.open(workspace["catalogue"].require()[0]), dims)
    else:
        features = features_of(workspace, dims)
    runs = [measured(log, features, asked.last, asked.decay, seed) for seed in _SEEDS]
    print("| newcomers among themselves by | NDCG@10 | Recall@10 |\n|---|---:|---:|")
    for name in runs[0]:
        figures = np.array([run[name] for run in runs]).T
        print(f"| {name} | {' | '.join(f'{found.mean():.4f} ± {found.std():.4f}' for found in figures)} |", flush=True)


if __name__ == "__main__":
    main()
