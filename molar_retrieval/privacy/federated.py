"""Shops that add up what they release: a file of the own statistics for others, and files of others beside the own.

What is in such a file was released by its shop before, at the cost that its ledger tells; giving it away, and reading
it, costs nobody anything more.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.dp_release import KEPT, release_statistics
from molar_retrieval.privacy.ledger import PrivacyLedger
from molar_retrieval.privacy.statistics import (
    FILE,
    KIND,
    OTHERS,
    ContentBasis,
    SharedStatistics,
    open_shared,
    open_statistics,
    write_shared,
)
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import INVENTORY, Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST, link_or_copy
from molar_retrieval.workspace.settings import PrivacySettings


@dataclass(frozen=True)
class SharedFile:
    """A file of a shop's statistics that was written.

    Attributes:
        path: Where.
        digest: Of its bytes, as the shops that add it have on record.
        released: Whether statistics were released for it; else those of the same log were found again, at no cost.
        epsilon: ε for each of the shop's people.
        delta: δ.
        items: How many items it tells of.
        absent: Items that were asked for, and that the release knows nothing of.
        transitions: Whether it tells what is taken after what looks like what; too few people tell nothing of it.
        pairs: Pairs of items in it.
        terms: In which terms looks are told: shops add these where they are the same.
    """

    path: Path
    digest: str
    released: bool
    epsilon: float
    delta: float
    items: int
    absent: int
    transitions: bool
    pairs: int
    terms: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"path": str(self.path)}


def share_statistics(
    workspace: Workspace,
    settings: PrivacySettings,
    content_components: int,
    path: Path,
    *,
    items: Sequence[str] | None = None,
    like: SharedStatistics | None = None,
    shops: int | None = None,
    progress: Progress = SILENT,
) -> SharedFile:
    """Write the workspace's statistics as a file for other shops, released where they were not yet.

    It tells of some ``items``, None: of all; ``like`` and ``shops`` are those of :func:`release_statistics`, None: as
    they were. A DataError if the release knows none of the items, the file cannot be written, or as it says there.
    """
    terms, work = None if like is None else like.terms, "molar privacy share"
    folder, _, released = release_statistics(
        workspace, settings, content_components, progress, like=terms, shops=shops, exactly=True, work=work
    )
    shared, absent = open_shared(folder / FILE), 0
    if items is not None:
        chosen = pc.is_in(shared.items.array, pa.array(items, shared.items.array.type))
        kept = IdMap(shared.items.array.filter(chosen))
        if not len(kept):
            raise DataError("none of the items that may be shared is in the statistics", "name items by the shop's ids")
        rows, absent = kept.rows(shared.items.array).astype(np.int64), len(set(items)) - len(kept)
        shared = replace(shared, released=shared.released.moved(rows, len(kept)), items=kept)
    digest, what = write_shared(shared, path), shared.released
    return SharedFile(
        path,
        digest,
        released,
        what.mechanism.epsilon,
        what.mechanism.delta,
        what.n_items,
        absent,
        bool(what.transitions.shape[1]),
        int(what.pairs.nnz),
        shared.terms.digest,
    )


def open_others(workspace: Workspace, paths: Sequence[Path]) -> list[SharedStatistics]:
    """Files of other shops, which can be added to the workspace's statistics.

    Raises:
        RequestError: If one is not there, is the workspace's own, or two are of the same shop.
        DataError: If one cannot be read, or has no item of the workspace's catalogue.
    """
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    seen: dict[str, Path | None] = {entry.name: None for entry in PrivacyLedger(workspace.root).entries()[:1]}
    others = []
    for path in paths:
        shared = open_shared(path)
        if shared.shop in seen:
            whose = seen[shared.shop]
            of = "of this shop itself" if whose is None else f"of the same shop as {whose}"
            raise RequestError(f"{path} is {of}: its people would count twice", "name one file of each other shop")
        if not (catalogue.ids.rows(shared.items.array) >= 0).any():
            raise DataError(
                f"{path} has no item of this catalogue",
                "shops add up items of the same ids: agree on GTIN, for example",
            )
        seen[shared.shop] = path
        others.append(shared)
    return others


def terms_of(workspace: Workspace, others: Sequence[SharedStatistics]) -> ContentBasis | None:
    """The terms of the first of others whose encoder made the workspace's vectors; None where there is none."""
    encoder = workspace["content"].require()[1].settings["encoder"]["fingerprint"]
    return next((one.terms for one in others if one.terms.encoder["fingerprint"] == encoder), None)


def kept_others(workspace: Workspace) -> list[Path]:
    """Files of other shops that the live statistics have."""
    live = workspace[KIND].current
    return [] if live is None else sorted((live / OTHERS).glob("*"))


def beside_others(workspace: Workspace, folder: Path, others: Sequence[SharedStatistics]) -> tuple[Path, Manifest]:
    """Make a version live that has the release of ``folder``, and files of others beside it: these and no more."""
    with workspace.lock(KIND):
        store, own, digests = workspace[KIND], open_statistics(folder), sorted(one.digest for one in others)
        if [one.digest for one in own.others] == digests:
            store.switch(folder.name)
            return folder, own.manifest
        ledger, catalogue = own.manifest.facts["ledger"], Catalogue.open(workspace["catalogue"].require()[0])
        name = fingerprint.of_json([ledger, digests]) if digests else ledger
        shutil.rmtree(store.partial(name[:16]))
        partial = store.partial(name[:16])
        for file in folder.iterdir():
            if file.is_file() and file.name not in (MANIFEST, INVENTORY):
                link_or_copy(file, partial / file.name)
        for one in others:
            (partial / OTHERS).mkdir(exist_ok=True)
            copied = Path(shutil.copyfile(one.path, partial / OTHERS / one.digest))
            if fingerprint.of_file(copied) != one.digest:
                raise DataError(f"{one.path} was written anew while it was read", "run the command again")
        facts = {"released_at": own.manifest.created, **own.manifest.facts}
        facts[OTHERS] = [
            {
                "digest": one.digest,
                "release": one.release,
                "shop": one.shop,
                "epsilon": one.released.mechanism.epsilon,
                "delta": one.released.mechanism.delta,
                "items": int((catalogue.ids.rows(one.items.array) >= 0).sum()),
                "same_terms": one.terms.digest == own.own.terms.digest,
                "transitions": bool(one.released.transitions.shape[1]),
                "pairs": int(one.released.pairs.nnz),
            }
            for one in others
        ]
        made = Manifest(KIND, name, settings=own.manifest.settings, facts=facts, versions=own.manifest.versions)
        there = store.publish(partial, made, keep=KEPT)
        return there, Manifest.read(there)
