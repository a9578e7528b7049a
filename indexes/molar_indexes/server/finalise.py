"""Once all points are in a collection: its graphs are built, and it is proved to answer as the workspace does."""

import time
from collections.abc import Callable, Iterator

from qdrant_client import models

from molar_indexes.generations import Generation
from molar_indexes.proof import search_problems
from molar_indexes.recall import LEAST, sample, scanning, share, widened
from molar_indexes.server.connect import Connection
from molar_indexes.server.faults import ServerError
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.layout import graphs, searched
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, StoredItem

SETTLED = 2
"""So many times in a row a collection must be green: its optimiser takes a moment to notice a change."""
STALLED = 600.0
"""Seconds without any change after which nothing more is expected."""
POLL = 1.0
"""Seconds between two looks at a collection that is not green."""
_SAMPLE = 32
_SEARCHES = 4


def build_graphs(connection: Connection, collection: str, spec: IndexSpec, progress: Progress) -> None:
    """Let the server build its graphs, and wait until it has, see :func:`wait_for_green`.

    The progress is that of vectors in graphs; the server counts them roughly, sparse ones with them, and leaves small
    segments without a graph, so the last step may be a long one.
    """
    insist, client, tell = connection.insist, connection.client, progress.note
    due = 0
    for name in searched(spec):
        due += insist(tell, client.count, collection, count_filter=_with(name), exact=True).count
    before, done = insist(tell, client.get_collection, collection).indexed_vectors_count or 0, 0

    def looked(info: models.CollectionInfo) -> None:
        nonlocal done
        built = max(done, min((info.indexed_vectors_count or 0) - before, due))
        progress.advance(built - done)
        done = built

    insist(tell, client.update_collection, collection, vectors_config=graphs(spec))
    progress.start("vectors into graphs on the server", due)
    wait_for_green(connection, collection, tell, looked)
    progress.advance(due - done)
    progress.finish()


def _with(name: str) -> models.Filter:
    """Points that have a vector."""
    return models.Filter(must=[models.HasVectorCondition(has_vector=name)])


def wait_for_green(
    connection: Connection,
    collection: str,
    tell: Callable[[str], None],
    looked: Callable[[models.CollectionInfo], None] = lambda info: None,
) -> None:
    """Wait until a collection is green and stays so; ``looked`` is called with each state of it.

    Raises :class:`ServerError` if it turns red, or nothing changes for :data:`STALLED` seconds.
    """
    green, seen, since = 0, None, time.monotonic()
    while True:
        info = connection.insist(tell, connection.client.get_collection, collection)
        looked(info)
        status = info.status.value
        green = green + 1 if status == "green" else 0
        if green == SETTLED:
            return
        state = (status, info.indexed_vectors_count, info.segments_count)
        if state != seen:
            seen, since = state, time.monotonic()
        if status == "red" or time.monotonic() - since > STALLED:
            raise ServerError(
                f"the collection {collection!r} of {connection.server.name} is {status}: {info.optimizer_status}",
                "look at the server's log, then run `molar index push` again; the live one was not touched",
            )
        time.sleep(POLL if green == 0 else POLL / 5)


def prove(
    index: ServerIndex, generation: Generation, connection: Connection, collection: str, progress: Progress
) -> dict[str, int]:
    """Compare a sample of what a collection holds and answers with the workspace's index.

    Returns the candidate lists that its graphs need, where the settings' own is not enough; raises
    :class:`ServerError` if something else comes back.
    """
    truth, queries = (
        scanning(generation.index),
        sample(generation.index, generation.users, generation.table.items),
    )
    reached = {}
    problem = next(_problems(index, generation.index), None)
    if problem is None:
        reached = widened(index, truth, queries, progress.note)
        found = {name: reach.found for name, reach in reached.items()}
        scanned = queries.keys() - found.keys()
        found |= {name: share(index, truth, name, queries[name][:_SEARCHES]) for name in scanned}
        worst = min(found, key=found.__getitem__)
        if found[worst] < LEAST:
            problem = f"of the workspace's best items by {worst!r} it finds {found[worst]:.0%}"
    if problem is not None:
        raise ServerError(
            f"the collection {collection!r} of {connection.server.name} does not give back what was sent: {problem}",
            "remove it there and run `molar index push` again; the live one was not touched",
        )
    return {name: reach.ef for name, reach in reached.items() if reach.ef != index.spec.ef}


def _problems(index: ServerIndex, local: Index) -> Iterator[str]:
    count = len(local)
    rows = sorted({number * count // _SAMPLE for number in range(_SAMPLE)} if count else set())
    names = [*local.spec.dims, *local.spec.sparse]
    mine, theirs = local.fetch(rows, vectors=names), index.fetch(rows, vectors=names)
    if [item.row for item in mine] != [item.row for item in theirs]:
        yield f"{len(mine) - len(theirs)} of {len(mine)} items are missing"
    for one, other in zip(mine, theirs, strict=False):
        if (one.item_id, one.payload) != (other.item_id, other.payload):
            yield f"item {one.item_id!r} has another payload"
        if _numbers(one) != _numbers(other):
            yield f"item {one.item_id!r} has other vectors"
    yield from search_problems(index, rows[:: max(1, len(rows) // _SEARCHES)][:_SEARCHES])


def _numbers(item: StoredItem) -> dict[str, list[float] | tuple[list[int], list[float]]]:
    dense = {name: list(vector) for name, vector in item.vectors.items()}
    sparse = {name: (list(v.indices), list(v.values)) for name, v in item.sparse.items()}
    return {**dense, **sparse}
