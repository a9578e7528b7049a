"""`molar index verify`: is a generation whole, and does it belong to the workspace's artefacts?"""

from collections.abc import Iterator
from itertools import islice, pairwise
from math import isfinite

from molar_indexes.generations import Generation
from molar_indexes.publish_check import LEAST, WORSE, sample, scanning, search_problems, share
from molar_indexes.records import sparse_problem
from molar_retrieval import columns
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import Index
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace

_SAMPLE = 100
_BATCH = 1000


def bytes_changed(workspace: Workspace, name: str | None = None) -> list[str]:
    """What is wrong with the files of a generation, by default the live one; all are read, the engine opens none.

    Raises:
        MissingArtefactError: If there is none.
        StaleArtefactError: If its manifest cannot be read.
    """
    store = workspace["generations"]
    folder = store.require()[0] if name is None else store.root / name
    return artefacts.check_inventory(folder, digests=True) if folder in store.versions() else []


def verify(
    generation: Generation, workspace: Workspace | None = None, *, deep: bool = False, read: bool = False
) -> list[str]:
    """Everything that is wrong with a generation, as sentences; empty where nothing is.

    ``deep`` reads every byte, vector and user instead of a sample, and every byte of the artefacts that it was made
    from, as far as they are live in the ``workspace``, if there is one. ``read`` says that :func:`bytes_changed` just
    read its own bytes.
    """
    problems = artefacts.check_inventory(generation.folder, digests=deep and not read)
    if not problems:
        problems += _counts(generation)
        problems += _items(generation, deep)
        problems += _users(generation, deep)
        problems += _graphs(generation) if deep else []
    if workspace is not None:
        problems += _inputs(generation, workspace, deep)
    return problems


def _counts(generation: Generation) -> Iterator[str]:
    facts = generation.manifest.facts
    users = len(generation.users) + generation.users.removed
    for what, count in (("items", len(generation.index)), ("users", users)):
        if count != facts[what]:
            yield f"it holds {count} {what}, the manifest says {facts[what]}"
    if any(not 0 <= row < facts["items"] for row, _ in generation.popular):
        yield "the list of popular items names an unknown one"


def _items(generation: Generation, deep: bool) -> Iterator[str]:
    count = len(generation.index)
    rows = range(0, count, 1 if deep else max(1, count // _SAMPLE))
    damages = list(_vectors(generation.index, rows))
    yield from damages
    if not damages:
        yield from search_problems(generation.index, rows[:: max(1, len(rows) // 4)][:4])


def _vectors(index: Index, rows: range) -> Iterator[str]:
    names = [*index.spec.dims, *index.spec.sparse]
    for begin in range(0, len(rows), _BATCH):
        wanted = rows[begin : begin + _BATCH]
        found = index.fetch(wanted, vectors=names)
        if len(found) != len(wanted):
            yield f"{len(wanted) - len(found)} of the item rows {wanted[0]}…{wanted[-1]} are missing"
        for item in found:
            for name, vector in item.vectors.items():
                if len(vector) != index.spec.dims[name] or not all(map(isfinite, vector)):
                    yield f"the vector {name!r} of item {item.item_id!r} is damaged"
            for name, sparse in item.sparse.items():
                if sparse_problem(sparse.indices, sparse.values):
                    yield f"the sparse vector {name!r} of item {item.item_id!r} is damaged"


def _users(generation: Generation, deep: bool) -> Iterator[str]:
    count, items, dim = 0, len(generation.index), generation.spec.dims[columns.ALIGNED]
    batches = generation.users.batches(_SAMPLE if not deep else _BATCH)
    for batch in batches if deep else islice(batches, 1):
        count += len(batch)
        for user in batch:
            if len(user.vector) != dim or not all(map(isfinite, user.vector)):
                yield f"the vector of user {user.user_id!r} is damaged"
            if sparse_problem(user.sparse.indices, user.sparse.values):
                yield f"the sparse vector of user {user.user_id!r} is damaged"
            if len(user.history) and not 0 <= min(user.history) <= max(user.history) < items:
                yield f"the history of user {user.user_id!r} names an unknown item"
            if len(user.times) != len(user.history) or any(a > b for a, b in pairwise(user.times)):
                yield f"the times of user {user.user_id!r} do not fit the history"
    if deep and count != len(generation.users):
        yield f"{count} users can be read, {len(generation.users)} should be there"


def _graphs(generation: Generation) -> Iterator[str]:
    """Whether graphs find what they have to; what was published before that was measured is not held to it."""
    index = generation.index
    if "graphs" not in generation.manifest.facts or not index.graphs:
        return
    truth, queries = scanning(index), sample(index, generation.users, generation.table.items)
    for name in sorted(index.graphs):
        if (found := share(index, truth, name, queries[name])) < LEAST - WORSE:
            yield f"searching {name!r} finds {found:.0%} of the best items, less than {LEAST - WORSE:.0%}"


def _inputs(generation: Generation, workspace: Workspace, deep: bool) -> Iterator[str]:
    for kind, made_from in generation.manifest.inputs.items():
        try:
            folder, manifest = workspace[kind].require()
        except MissingArtefactError:
            continue
        except StaleArtefactError as error:
            yield error.message
            continue
        if manifest.fingerprint != made_from:
            yield (
                f"it was made from the {kind} {made_from[:16]}, the workspace now has {manifest.fingerprint[:16]}:"
                " run `molar align`"
            )
        elif kind == "interactions" and generation.manifest.facts.get("people") != manifest.facts.get("people"):
            yield "its people are called what they were before: run `molar update`"
        elif deep:
            yield from (
                f"of the {kind} that it was made from, {what}"
                for what in artefacts.check_inventory(folder, digests=True)
            )
