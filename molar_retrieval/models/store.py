"""An ensemble on disk: one safetensors file, and facts in the manifest of the artefact."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models import own_block
from molar_retrieval.models.content_features import Conditioner
from molar_retrieval.models.content_knn import ContentKNN
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import ItemItemWeights
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.repeat_consumption import RepeatConsumption
from molar_retrieval.models.towers.inference import FILE, NETWORK
from molar_retrieval.models.towers.network import TwoTowerNetwork, tower_shapes
from molar_retrieval.models.vectors import Predictor
from molar_retrieval.ranking.objectives import slots_of
from molar_retrieval.ranking.reranker import Reranker
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import mapped, under

Tensors = dict[str, npt.NDArray[Any]]


def save(model: Ensemble, folder: Path) -> None:
    """Write the model's arrays; what :func:`described` returns belongs into the manifest's facts."""
    tensors: Tensors = {NETWORK + n: t.detach().cpu().numpy() for n, t in model.network.state_dict().items()}
    tensors |= {"features": model.features, "known": model.known}
    for number, (mean, matrix) in enumerate(zip(model.conditioner.means, model.conditioner.maps, strict=True)):
        tensors |= {f"mean.{number}": mean, f"map.{number}": matrix}
    for neighbors in model.item_item:
        tensors |= neighbors.to_tensors(f"item_item.{neighbors.name}.")
    for name, predictor in model.predictors.items():
        tensors |= {f"predictor.{name}.matrix": predictor.matrix, f"predictor.{name}.mean": predictor.mean}
    if model.content_knn is not None:
        tensors["content_knn"] = model.content_knn.items
        if model.content_knn.targets is not None:
            tensors["content_knn_targets"] = model.content_knn.targets
    if model.reranker is not None:
        tensors |= {f"rerank.{name}": array for name, array in model.reranker.to_tensors().items()}
    if model.repeats is not None:
        tensors |= model.repeats.to_tensors()
    tensors |= own_block.to_tensors(model.own)
    others = {
        "als": model.als,
        "numbers": model.numbers,
        "content_knn_axes": model.content_knn_axes,
        "demand": model.demand,
    }
    tensors |= {name: tensor for name, tensor in others.items() if tensor is not None}
    save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, folder / FILE)


def described(model: Ensemble) -> dict[str, Any]:
    """All of the model that is no array, as JSON-able facts."""
    content_knn = model.content_knn
    return {
        "weights": dict(model.weights),
        "cold_start_weights": dict(model.cold_start_weights),
        "slots": list(model.slots),
        "reranker": None if model.reranker is None else model.reranker.described(),
        "content_blocks": [[b.name, b.start, b.stop] for b in model.conditioner.blocks],
        "item_item": [p.name for p in model.item_item],
        "content_knn": None
        if content_knn is None
        else {"decay": content_knn.decay, "last": content_knn.last, "taught": content_knn.axes is not None},
        "half_life": None if model.half_life is None else str(model.half_life),
        "min_users": model.least,
        **({} if model.repeats is None else {"repeat_consumption": model.repeats.described()}),
        "towers": list(model.network.shapes),
        "own": [one.name for one in model.own],
        **asked_for(model),
    }


def asked_for(model: Ensemble) -> dict[str, Any]:
    """What the model can be asked for, as facts; nothing where that is the default aim alone."""
    if not model.objectives:
        return {}
    return {
        "objectives": {name: dict(factors) for name, factors in model.objectives.items()},
        "default_objective": model.default_objective,
    }


def open_model(folder: Path) -> Ensemble:
    """Read a model from an ``alignment`` artefact; it has seen no log yet, see :meth:`Ensemble.seeing`.

    All but the network is mapped: the system takes its pages back where it needs them, and processes share them.
    It makes the vectors of users in single precision, whatever it was trained in: as
    :class:`~molar_retrieval.models.towers.inference.UserEncoder` does, so that what is published and what a process
    that answers makes of the same history are the same.
    """
    manifest, tensors = Manifest.read(folder), mapped(folder / FILE, writable=True)
    facts, settings = manifest.facts, trained_with(manifest)
    blocks = tuple(VectorBlock(*b) for b in facts["content_blocks"])
    count = range(len(blocks))
    conditioner = Conditioner(
        blocks, tuple(tensors[f"mean.{n}"] for n in count), tuple(tensors[f"map.{n}"] for n in count)
    )
    predicted = sorted({name.split(".")[1] for name in tensors if name.startswith("predictor.")})
    read, reranker, demand = facts["content_knn"], facts.get("reranker"), tensors.get("demand")
    repeats, axes = facts.get("repeat_consumption"), tensors.get("content_knn_axes")
    return Ensemble(
        network=_network(tensors, settings, facts["towers"]),
        conditioner=conditioner,
        features=tensors["features"],
        known=tensors["known"],
        item_item=tuple(
            ItemItemWeights.from_tensors(name, tensors, f"item_item.{name}.") for name in facts["item_item"]
        ),
        content_knn=None
        if read is None
        else ContentKNN(
            tensors["content_knn"],
            read["decay"],
            read["last"],
            tensors.get("content_knn_targets"),
            axes if read.get("taught") else None,
        ),
        half_life=None if facts["half_life"] is None else float(facts["half_life"]),
        weights=facts["weights"],
        least=facts.get("min_users", 1),
        cold_start_weights=facts["cold_start_weights"],
        objectives=facts.get("objectives", {}),
        repeats=None if repeats is None else RepeatConsumption.of(repeats, tensors),
        default_objective=facts.get("default_objective", "next_item"),
        predictors={
            name: Predictor(tensors[f"predictor.{name}.matrix"], tensors[f"predictor.{name}.mean"])
            for name in predicted
        },
        slots=slots_of(facts),
        reranker=None if reranker is None else Reranker.of(reranker, under(tensors, "rerank.")),
        als=tensors.get("als"),
        numbers=tensors.get("numbers"),
        content_knn_axes=axes,
        demand=demand,
        popularity=None if demand is None else Popularity.of_counts(demand),
        precision="float32",
        own=own_block.of_tensors(facts["own"], tensors, len(tensors["known"])),
    )


def trained_with(manifest: Manifest) -> AlignSettings:
    """The settings of an alignment's training, without such as are no more."""
    known = {name: value for name, value in manifest.settings["align"].items() if name in AlignSettings.model_fields}
    return AlignSettings(**known)


def _network(tensors: Tensors, settings: AlignSettings, towers: Sequence[str]) -> TwoTowerNetwork:
    factors = tensors.get(NETWORK + "project_factors.weight", np.zeros((0, 0))).shape[1]
    features = torch.from_numpy(tensors["features"])
    shapes = {name: shape for name, shape in tower_shapes(settings).items() if name in towers}
    network = TwoTowerNetwork(shapes, len(tensors["known"]), features, factors)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in under(tensors, NETWORK).items()})
    return network.eval()
