"""What words add to an encoder: content kNN component alone, on items that play newcomers.

    python bench/words.py CATALOGUE WORKSPACE

Nothing but training interactions is read. Three times a tenth of the known items is withheld; people's first
interactions with these are to be foretold among the withheld ones from what they had before, by the cosine with the
decayed mean of their items. Ways to read a history are those of `molar align`, the best for each row. The workspace
needs content vectors and prepared interactions (`molar align`), and stays as it is.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_attributes, hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders.base import unit
from molar_retrieval.models import content_features
from molar_retrieval.models.als import held_out
from molar_retrieval.models.cold_start import among
from molar_retrieval.models.content_knn import GRID, ContentKNN
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import means, ranks, taken, withheld_items
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, SplitSettings
from molar_retrieval.workspace.tensors import Mask, Matrix

_SEEDS = range(3)


def views(workspace: Workspace) -> Iterator[tuple[str, Matrix]]:
    """What content neighbours read, by what it is made of, each of shape (n_items, f)."""
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    content = ContentVectors.open(workspace["content"].require()[0])
    keep, nothing = AlignSettings().content_components, np.zeros((len(catalogue), 0), np.float32)
    encoder = content_features.fit(content.vectors, content.blocks, keep, ready=content.conditioned)(content.vectors)
    attributes, said = hashed_attributes(catalogue), hashed_features(catalogue)
    told = content_features.fit(nothing, (), keep, attributes, ready=True)(nothing, attributes)
    yield "the encoder", encoder
    yield "attributes", told
    yield "words and attributes", content_features.words_alone(catalogue, keep)
    yield "the encoder and attributes", unit(np.concatenate([encoder, told * np.float32(0.5**0.5)], axis=1))
    whole = content_features.fit(content.vectors, content.blocks, keep, said, ready=content.conditioned)
    yield "all of them, as `molar align` reads them", whole(content.vectors, said)


def measured(features: Matrix, log: Interactions, withheld: Mask, seed: int) -> dict[str, float]:
    """Metrics of the best way to read a history."""
    asked = taken(log, withheld, seed)
    told, found = among(asked, withheld), []
    for way in GRID:
        neighbours = ContentKNN.of(features, way["decay"], way["last"])
        users, items = neighbours.users(asked.histories()), neighbours.items[withheld]
        found.append(means(ranks(told, lambda block, users=users, items=items: users[block] @ items.T)))
    return max(found, key=lambda one: one["ndcg@10"])


def main() -> None:
    """Print a line for each view."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    log = held_out(workspace, SplitSettings()).training
    print("| content neighbours of | NDCG@10 | Recall@10 |\n|---|---:|---:|")
    for name, features in views(workspace):
        runs = [measured(features, log, withheld_items(known_items(log), seed), seed) for seed in _SEEDS]
        ndcg, recall = (np.array([run[metric] for run in runs]) for metric in ("ndcg@10", "recall@10"))
        told = " | ".join(f"{found.mean():.4f} ± {found.std():.4f}" for found in (ndcg, recall))
        print(f"| {name} | {told} |", flush=True)


if __name__ == "__main__":
    main()
