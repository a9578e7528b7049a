"""Statistics of one shop for others, in one file: noised sums by item ids, and public parameters.

A safetensors file, whose metadata has an entry ``molar``: JSON with the form and its version, the ids of the items in
the order of the rows, ε, δ and the noise, in which terms content is told, and two names drawn at random: of the
release, and of the shop, so that nobody is counted twice. Nothing in it is of one person.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from molar_retrieval import fingerprint
from molar_retrieval.arrays import Array
from molar_retrieval.durable import sync_file, sync_folder
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ids import IdMap
from molar_retrieval.statistics.released import PAIRS, POPULARITY, TRANSITIONS, Released
from molar_retrieval.statistics.terms import ContentTerms

FORM, VERSION = "molar shared statistics", 1
"""The version is raised with every change of what one person adds to a sum, too."""
_KEY = "molar"


@dataclass(frozen=True, eq=False)
class SharedStatistics:
    """What a file of shared statistics holds: a release over some items, and in which terms content is told.

    ``release`` and ``shop`` are random names; ``digest`` is that of the file, and ``path`` is where it was read.
    """

    released: Released
    items: IdMap
    terms: ContentTerms
    release: str
    shop: str
    digest: str = ""
    path: Path = Path()


def write_shared(shared: SharedStatistics, path: Path) -> str:
    """Write a file, whole or not at all; its digest."""
    facts = {"form": FORM, "version": VERSION, "release": shared.release, "shop": shared.shop}
    facts |= {**shared.released.facts(), **shared.terms.facts(), "items": shared.items.array.to_pylist()}
    tensors = shared.released.tensors() | shared.terms.tensors()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, {_KEY: json.dumps(facts, ensure_ascii=False)})
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error}", "name a file in a folder that is there") from error
    return fingerprint.of_file(path)


def open_shared(path: Path) -> SharedStatistics:
    """Read a file that another shop wrote.

    Raises:
        RequestError: If there is none.
        DataError: If it is no such file, another version wrote it, or its numbers cannot be.
    """
    if not path.is_file():
        raise RequestError(f"there is no file {path}", "name a file that `molar privacy share` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        if facts.get("form") != FORM:
            raise ValueError("it does not say that it is one")
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} holds no shared statistics: {error}", "name a file that `molar privacy share` wrote"
        ) from error
    if facts.get("version") != VERSION:
        raise DataError(
            f"{path} has version {facts.get('version')} of shared statistics, this molar reads version {VERSION}",
            "let both shops have the same version of molar, and share again",
        )
    try:
        return replace(_checked(facts, tensors), digest=fingerprint.of_file(path), path=path)
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise DataError(f"{path} is damaged: {error}", "ask the shop for the file again") from error


def _checked(facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> SharedStatistics:
    """What the file says, if it can be: it comes from elsewhere."""
    released, terms = Released.of(facts, tensors), ContentTerms.of(facts, tensors)
    items, mechanism = IdMap(facts["items"]), released.mechanism
    n_items, width = len(items), released.transitions.shape[1]
    released.pairs.check_format(full_check=True)
    for name in (POPULARITY, TRANSITIONS, f"{PAIRS}.data"):
        if tensors[name].dtype != np.float32 or not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} has values that cannot be")
    noise = [mechanism.epsilon, mechanism.delta, mechanism.sigma, *released.deviations.values()]
    if not all(isinstance(one, float | int) and np.isfinite(one) and one > 0 for one in noise):
        raise ValueError("the noise on it is not said")
    if POPULARITY not in released.deviations or (TRANSITIONS not in released.deviations and width):
        raise ValueError("the noise on it is not said")
    if released.popularity.shape != (n_items,) or released.transitions.shape != (n_items, width):
        raise ValueError("it has not as many rows as items")
    if not np.isfinite(released.people) or width not in (0, terms.axes.shape[1]):
        raise ValueError("its numbers do not belong together")
    _check_terms(terms)
    return SharedStatistics(released, items, terms, str(facts["release"]), str(facts["shop"]))


def _check_terms(terms: ContentTerms) -> None:
    if not {"name", "fingerprint"} <= terms.encoder.keys():
        raise ValueError("no encoder is named")
    conditioner = terms.conditioner
    for block, mean, matrix in zip(conditioner.blocks, conditioner.means, conditioner.maps, strict=True):
        if mean.shape != (block.stop - block.start,) or matrix.shape[:1] != mean.shape or matrix.ndim != 2:
            raise ValueError("content is told in no terms that could be")
    if terms.axes.shape[:1] != (conditioner.dim,) or terms.axes.ndim != 2:
        raise ValueError("content is told in no terms that could be")
    if not all(np.isfinite(array).all() for array in terms.tensors().values()):
        raise ValueError("content is told in no terms that could be")
