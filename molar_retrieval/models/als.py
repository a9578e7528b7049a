"""Implicit matrix factorisation by alternating least squares (library `implicit`), and its artefact ``als``."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Holdout, Interactions, holdout_last, to_csr
from molar_retrieval.data.prepare_interactions import read_validation
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint, tensors
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import ALSSettings, SplitSettings
from molar_retrieval.workspace.tensors import Matrix


@dataclass(frozen=True)
class ALSFactors:
    """What ALS learned: shape (n, factors) each; zero for a user or an item without interactions."""

    users: Matrix
    items: Matrix


def fit(log: Interactions, settings: ALSSettings, progress: Progress = SILENT) -> ALSFactors:
    """Factorise the log's user × item matrix (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22).

    An interaction has confidence ``alpha``, repeated ones add up; what nobody took has confidence 1. The result depends
    on the seed only, not on the number of threads. BLAS gets one thread, as `implicit` parallelises over rows itself.
    Where 32-bit numbers do not do, as where one item has nearly all interactions, it is done again with 64-bit ones; a
    DataError says that there are no interactions, or no factors that fit them.
    """
    matrix = to_csr(log)
    if not matrix.nnz:
        raise DataError("there are no training interactions", "check that the log's item ids occur in the catalogue")
    for numbers in (np.float32, np.float64):
        found = _fitted(matrix, settings, numbers, progress)
        if found is not None:
            users, items = found
            return ALSFactors(_masked(users, matrix), _masked(items, matrix.T.tocsr()))
    raise DataError(
        f"ALS finds no factors for {matrix.nnz:,} pairs whose weights reach {matrix.data.max():g}: numbers overflow",
        "lower alpha in molar.toml, [als], or the weights of the interactions",
    )


def _fitted(
    matrix: csr_matrix, settings: ALSSettings, numbers: type[np.floating], progress: Progress
) -> tuple[Matrix, Matrix] | None:
    """Factors of users and items; None where they do not stay finite."""
    from implicit.als import AlternatingLeastSquares
    from implicit.recommender_base import ModelFitError

    progress.start("ALS", settings.iterations)
    chosen = settings.model_dump(include={"factors", "regularization", "alpha", "iterations"})
    try:
        with threadpool_limits(limits=1, user_api="blas"):  # where the model is made, too, as it looks and warns
            model = AlternatingLeastSquares(dtype=numbers, random_state=settings.seed, **chosen)
            model.fit(matrix, show_progress=False, callback=lambda *_: progress.advance())
    except ModelFitError:
        return None
    finally:
        progress.finish()
    users, items = np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)
    return (users, items) if np.isfinite(users).all() and np.isfinite(items).all() else None


def _masked(factors: npt.NDArray[np.floating], matrix: csr_matrix) -> Matrix:
    """The factors, zero where there is no interaction; ALS leaves noise there."""
    result = np.array(factors, np.float32)
    result[np.diff(matrix.indptr) == 0] = 0
    return result


_FILE = "factors.safetensors"
_USERS, _ITEMS = "users", "items"
_WORK = "molar cf"


@dataclass(frozen=True)
class ALSReport:
    """What `molar cf` did.

    Attributes:
        folder: The artefact.
        fingerprint: Its fingerprint.
        up_to_date: Whether it was there already.
        facts: Counts of users, items and training interactions.
    """

    folder: Path
    fingerprint: str
    up_to_date: bool
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder)}


def open_log(workspace: Workspace) -> Interactions:
    """The workspace's prepared interactions; StaleArtefactError if they are not of its catalogue."""
    with pin(workspace, "catalogue", "interactions", work=_WORK) as inputs:
        catalogue, manifest = inputs["catalogue"].require()
        folder, _ = inputs["interactions"].require()
        return Interactions.open(folder, Catalogue(catalogue, manifest).ids)


def held_out(workspace: Workspace, settings: SplitSettings) -> Holdout:
    """Training interactions and validation cases; the only place that decides what training may see.

    The cases are those that the log was published with, as an evaluation does, else each user's last interaction.
    """
    with pin(workspace, "catalogue", "interactions", work=_WORK) as inputs:
        log = open_log(inputs)
        brought = read_validation(inputs["interactions"].require()[0], log)
    if brought is not None:  # no cases are no cases
        return brought
    return holdout_last(log, max_users=settings.validation_users, seed=settings.seed)


def factorise(
    workspace: Workspace,
    settings: ALSSettings,
    splitting: SplitSettings,
    progress: Progress = SILENT,
    *,
    people: bool = False,
) -> ALSReport:
    """Fit ALS on the training interactions and publish the factors as the workspace's ``als``.

    Factors that are there are not made again, but where those of ``people`` are asked for, and were dropped.

    MissingArtefactError if the interactions are not prepared, DataError if there are none to train on,
    StaleArtefactError if they are not of the workspace's catalogue, or others were prepared meanwhile.
    """
    read = pin(workspace, "catalogue", "interactions", work=_WORK)
    chosen = {"als": settings.model_dump(), "split": splitting.model_dump()}
    inputs = {"interactions": read["interactions"].require()[1].fingerprint}
    name = fingerprint.of_json([inputs, chosen, 2])
    store = workspace["als"]
    if (live := store.live) is not None and live[1].fingerprint == name and (has_users(live[0]) or not people):
        return ALSReport(live[0], name, True, dict(live[1].facts))
    with workspace.lock("als"), read:
        training = held_out(read, splitting).training
        factors = fit(training, settings, progress)
        partial = store.partial(name[:16])
        save_file({_USERS: factors.users, _ITEMS: factors.items}, partial / _FILE)
        counts = {"users": training.n_users, "items": training.n_items, "interactions": len(training.item)}
        facts = {**counts, "factors": settings.factors}
        versions = library_versions("implicit", "numpy", "scipy")
        read.confirm()
        folder = store.publish(partial, Manifest("als", name, inputs, chosen, facts, versions))
    return ALSReport(folder, name, False, facts)


def open_factors(folder: Path) -> ALSFactors:
    """The factors of a ``cf`` artefact, mapped; StaleArtefactError where those of people were dropped."""
    found = tensors.mapped(folder / _FILE, writable=True)
    if _USERS not in found:
        raise StaleArtefactError(f"{folder} has no factors of people any more", "run `molar align` again")
    return ALSFactors(found[_USERS], found[_ITEMS])


def has_users(folder: Path) -> bool:
    """Whether a ``cf`` artefact still has the factors of people; one that is damaged has none."""
    try:
        with safe_open(folder / _FILE, framework="numpy") as tensors:
            return _USERS in tensors.keys()  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def drop_users(workspace: Workspace) -> None:
    """Take the factors of people out of the live ``cf``: only training reads them, and makes them again where it must.

    The version stays what it is, by its name and its fingerprint; its manifest says under ``dropped`` what went.
    """
    store = workspace["als"]
    with workspace.lock("als"):
        folder, manifest = store.require()
        if not has_users(folder):
            return
        partial = store.partial(f"{folder.name}-items")
        save_file({_ITEMS: load_file(folder / _FILE)[_ITEMS]}, partial / _FILE)
        store.update_manifest(replace(manifest, facts={**manifest.facts, "dropped": [_USERS]}), partial)
