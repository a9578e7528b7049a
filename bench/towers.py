"""What variants of the towers reach beside the experts, on validation of the leave-one-out split, and what they take.

    python bench/towers.py CATALOGUE WORKSPACE [--set "embedding_dim=128 epochs=8" ...] [--users 1200] [--cases 2000]

Each ``--set`` is a variant: keys of ``[align]`` over the defaults; without one, the defaults alone. The log is that of
the split's training, the cases are its validation; nothing of a test is looked at. With ``--users`` the towers are
trained on so many people drawn at random, with ``--cases`` so many cases judge; experts count everybody. The workspace
needs content vectors and prepared interactions, and stays as it is.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.splits import leave_one_out
from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models import content_features
from molar_retrieval.models.als import fit, open_log
from molar_retrieval.models.base import count_models
from molar_retrieval.models.blending import Dense, blend
from molar_retrieval.models.towers.distributed import pick_device, pick_precision
from molar_retrieval.models.towers.training import EpochScore, TrainingData, sized, train
from molar_retrieval.models.validation import ValidationCases, drawn, means, ranks, sample
from molar_retrieval.models.vectors import encode_users, item_sides
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings, ALSSettings


def data_of(workspace: Workspace) -> TrainingData:
    """The split's training interactions and validation cases, as an evaluation gives them to `molar align`."""
    split = leave_one_out(open_log(workspace))
    asked = split.validation
    users, times = asked.user[asked.case_of_target], asked.times()[asked.case_of_target]
    everything = np.ones(split.training.n_items, bool)
    cases = ValidationCases(split.training, users, asked.targets.astype(np.int64), everything, times)
    content = ContentVectors.open(workspace["content"].require()[0])
    sayings = hashed_features(Catalogue.open(workspace["catalogue"].require()[0]))
    kept = AlignSettings().content_components
    made = content_features.fit(content.vectors, content.blocks, kept, sayings, ready=content.conditioned)
    return TrainingData(split.training, cases, made(content.vectors, sayings), fit(split.training, ALSSettings()))


def of_some(data: TrainingData, users: int) -> TrainingData:
    """What so many people, drawn at random, did: all that the towers then see, their cases included."""
    rows = drawn(data.log.n_users, users, rng.generator(0, "people"))
    log = data.log.select(np.isin(data.log.user, rows))
    chosen = np.flatnonzero(np.isin(data.cases.users, rows))
    cases = replace(data.cases.select(chosen), log=log)
    return TrainingData(log, cases, data.features, fit(log, ALSSettings()))


def settings_of(text: str) -> AlignSettings:
    """Settings by ``key=value`` pairs, values in JSON or as they are."""
    values: dict[str, Any] = {"threads": 1}
    for pair in text.split():
        key, _, value = pair.partition("=")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    return AlignSettings(**values)


def tell(score: EpochScore) -> None:
    """A line for each epoch."""
    print(f"  epoch {score.epoch}: loss {score.loss:.3f}, NDCG@10 {score.ndcg:.4f} among those trained on", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--set", action="append", dest="variants", metavar="SETTINGS")
    parser.add_argument("--users", type=int)
    parser.add_argument("--cases", type=int, default=10_000)
    given = parser.parse_args()
    data = data_of(Workspace.for_catalogue(given.workspace, given.catalogue))
    judged = replace(data, cases=sample(data.cases, given.cases, rng.generator(0, "cases")))
    trained = of_some(data, given.users) if given.users else data
    watch = Timer()
    counts = count_models(judged.log, judged.cases, judged.features, AlignSettings()).parts(judged.cases)
    print(f"experts counted in {watch.took.processor:.0f} s of a processor", flush=True)
    for text in given.variants or [""]:
        settings = sized(settings_of(text), trained.log)
        print(text or "defaults", flush=True)
        watch = Timer()
        with tempfile.TemporaryDirectory() as folder:
            network, _ = train(trained, settings, Path(folder), "bench", on_epoch=tell)
        took = watch.took
        precision = pick_precision(settings.precision, pick_device(settings.device))
        users = encode_users(network, judged.cases.histories(), np.arange(len(judged.cases)), precision=precision)
        parts = {name: Dense(users[name], side) for name, side in item_sides(network, trained.warm).items()}
        for name, part in parts.items():
            alone = means(ranks(judged.cases, part.scores))
            print(f"  {name} alone: NDCG@10 {alone['ndcg@10']:.4f}, Recall@10 {alone['recall@10']:.4f}")
        found = blend(judged.cases, {**parts, **counts}, settings.seed)
        score = means(found.ranks)
        shares = ", ".join(f"{name} {share:.3f}" for name, share in found.shares.items())
        print(f"  with experts: NDCG@10 {score['ndcg@10']:.4f}, Recall@10 {score['recall@10']:.4f} ({shares})")
        print(f"  {took.processor:.0f} s of a processor, {took.seconds:.0f} s by the clock", flush=True)


if __name__ == "__main__":
    main()
