"""What weights for later find, on a future that had no part in choosing them.

    python bench/future_items.py CATALOGUE WORKSPACE

The log is cut as the temporal split of `molar evaluate` cuts it, into training, validation [t1, t2) and a test that is
not looked at. Experts are fitted on the training interactions, with settings that the next item of validation chooses;
weights for later are chosen within the training log, once for each choice of cuts there. The last column is what they
find of all that people took in [t1, t2) and had not had, which nothing was chosen on. The workspace needs content
vectors and prepared interactions (`molar align`), and stays as it is.
"""

import argparse
from pathlib import Path

import numpy as np

from molar_eval.splits import temporal
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Holdout
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models import content_features
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import CountModels, count_models
from molar_retrieval.models.future_items import AFTER, Future, FutureCases, FutureWeights, choose_future_items, scored
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Matrix

_CUTS = (AFTER, *((after,) for after in (0.5, 0.3, 0.1)))


def features_of(workspace: Workspace, dims: int) -> Matrix:
    """Content features as `molar align` conditions them, shape (n_items, f)."""
    said = hashed_features(Catalogue.open(workspace["catalogue"].require()[0]))
    content = ContentVectors.open(workspace["content"].require()[0])
    return content_features.fit(content.vectors, content.blocks, dims, said, ready=content.conditioned)(
        content.vectors, said
    )


def found(counts: CountModels, later: FutureWeights, cases: FutureCases, settings: AlignSettings) -> dict[str, float]:
    """NDCG@10 of the weights, and of each part alone, fitted on all that lies before the cases."""
    shipped = counts.item_item if later.ease_future is None else (*counts.item_item, later.ease_future)
    report = counts.report | ({} if later.ease_future is None else {"ease_future": later.expert})
    whole = CountModels(shipped, counts.content_knn, counts.popularity, report)
    future = Future.of(cases, whole, settings.neighbors)
    cache, single = scored([future]), np.eye(len(future.parts))
    alone = {name: cache.ndcg(one) for name, one in zip(future.parts, single, strict=True)}
    return {"weights": cache.ndcg(np.array([later.weights[name] for name in future.parts])), **alone}


def main() -> None:
    """Print a line for each choice of cuts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    split, settings = temporal(open_log(workspace)), AlignSettings(preset="instant")
    next_new, log = split.validation, split.history.select(split.history.timestamp < split.facts["t2"])
    holdout = Holdout(split.training, next_new.user.astype(np.int32), next_new.targets, next_new.times())
    features = features_of(workspace, settings.content_components)
    counts = count_models(split.training, ValidationCases.of(holdout), features, settings)
    share = float(np.mean(log.timestamp >= split.facts["t1"]))
    judges = FutureCases.of(log, share)
    print("| left after the cuts | people | λ of `lasting` | share of each part | chosen | processor | then found |")
    print("|---|---:|---:|---|---:|---:|---:|")
    for cuts in _CUTS:
        futures = [FutureCases.of(split.training, after, settings.seed) for after in cuts]
        later = choose_future_items(split.training, futures, counts, settings)
        shares = ", ".join(f"{name} {part:.0%}" for name, part in later.report["shares"].items() if part >= 0.005)
        after = found(counts, later, judges, settings)
        alone = ", ".join(f"{name} {score:.4f}" for name, score in after.items() if name != "weights")
        print(
            f"| {', '.join(f'{after:.0%}' for after in cuts)} | {later.report['cases']:,} |"
            f" {later.expert['chosen']['regularisation'] if later.expert else '–'} | {shares} |"
            f" {later.report['scores']['aligned']:.4f} | {later.report['processor_seconds']:.0f} s |"
            f" {after['weights']:.4f} ({alone}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
