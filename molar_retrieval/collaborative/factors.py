"""`molar cf`: the workspace's collaborative factors, made anew only when their inputs changed."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from molar_retrieval.collaborative.als import ALSFactors, fit
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Holdout, Interactions, holdout_last
from molar_retrieval.data.prepare_interactions import read_validation
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint, tensors
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import CFSettings, SplitSettings

_FILE = "factors.safetensors"
_PEOPLE, _ITEMS = "users", "items"
_WORK = "molar cf"


@dataclass(frozen=True)
class CFReport:
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
    settings: CFSettings,
    splitting: SplitSettings,
    progress: Progress = SILENT,
    *,
    people: bool = False,
) -> CFReport:
    """Fit ALS on the training interactions and publish the factors as the workspace's ``cf``.

    Factors that are there are not made again, but where those of ``people`` are asked for, and were dropped.

    MissingArtefactError if the interactions are not prepared, DataError if there are none to train on,
    StaleArtefactError if they are not of the workspace's catalogue, or others were prepared meanwhile.
    """
    read = pin(workspace, "catalogue", "interactions", work=_WORK)
    chosen = {"cf": settings.model_dump(), "split": splitting.model_dump()}
    inputs = {"interactions": read["interactions"].require()[1].fingerprint}
    name = fingerprint.of_json([inputs, chosen, 2])
    store = workspace["cf"]
    if (live := store.live) is not None and live[1].fingerprint == name and (has_people(live[0]) or not people):
        return CFReport(live[0], name, True, dict(live[1].facts))
    with workspace.lock("cf"), read:
        training = held_out(read, splitting).training
        factors = fit(training, settings, progress)
        partial = store.partial(name[:16])
        save_file({_PEOPLE: factors.users, _ITEMS: factors.items}, partial / _FILE)
        counts = {"users": training.n_users, "items": training.n_items, "interactions": len(training.item)}
        facts = {**counts, "factors": settings.factors}
        versions = library_versions("implicit", "numpy", "scipy")
        read.confirm()
        folder = store.publish(partial, Manifest("cf", name, inputs, chosen, facts, versions))
    return CFReport(folder, name, False, facts)


def open_factors(folder: Path) -> ALSFactors:
    """The factors of a ``cf`` artefact, mapped; StaleArtefactError where those of people were dropped."""
    found = tensors.mapped(folder / _FILE, writable=True)
    if _PEOPLE not in found:
        raise StaleArtefactError(f"{folder} has no factors of people any more", "run `molar align` again")
    return ALSFactors(found[_PEOPLE], found[_ITEMS])


def has_people(folder: Path) -> bool:
    """Whether a ``cf`` artefact still has the factors of people; one that is damaged has none."""
    try:
        with safe_open(folder / _FILE, framework="numpy") as tensors:
            return _PEOPLE in tensors.keys()  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def drop_people(workspace: Workspace) -> None:
    """Take the factors of people out of the live ``cf``: only training reads them, and makes them again where it must.

    The version stays what it is, by its name and its fingerprint; its manifest says under ``dropped`` what went.
    """
    store = workspace["cf"]
    with workspace.lock("cf"):
        folder, manifest = store.require()
        if not has_people(folder):
            return
        partial = store.partial(f"{folder.name}-items")
        save_file({_ITEMS: load_file(folder / _FILE)[_ITEMS]}, partial / _FILE)
        store.update_manifest(replace(manifest, facts={**manifest.facts, "dropped": [_PEOPLE]}), partial)
