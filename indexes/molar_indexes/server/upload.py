"""Sending points to a collection: blocks of rows, bounded batches, several at once; what is there already is left out.

A batch that fails is tried again. Points have ids, so one that was applied though its answer got lost does no harm.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Event

from qdrant_client import models

from molar_indexes.server.connect import Connection
from molar_indexes.server.faults import persistently
from molar_indexes.server.points import size
from molar_retrieval.progress import Progress

BLOCK = 1000
"""Rows that are read, and looked for on the server, together."""
BATCH_BYTES = 4 << 20
"""A request has no more, unless one point alone has; Qdrant advises to stay below 5 MB and refuses 32."""
_AHEAD = 2
"""Batches in memory for each that is being sent."""

Read = Callable[[int, int], Sequence[models.PointStruct]]
Between = Callable[[int, int], models.Filter]


def upload(
    connection: Connection,
    collection: str,
    rows: range,
    read: Read,
    between: Between,
    *,
    resumed: bool,
    at_once: int,
    progress: Progress,
    task: str,
) -> int:
    """Send those points of some ``rows`` that a collection lacks, ``at_once`` batches at a time; returns how many.

    ``read`` gives the points of the rows from one up to another, ``between`` the condition that they alone fulfil;
    where work is ``resumed``, some may be there already. Raises :class:`ServerError` if a batch fails for good; those
    before it stay.
    """
    progress.start(task, len(rows))

    def present(first: int, last: int) -> int:
        chosen, count = between(first, last), connection.client.count
        return connection.insist(progress.note, count, collection, count_filter=chosen, exact=True).count

    def missing() -> Iterator[Sequence[models.PointStruct]]:
        for first in range(rows.start, rows.stop, BLOCK):
            last = min(first + BLOCK, rows.stop)
            if resumed and present(first, last) == last - first:
                progress.advance(last - first)
            else:
                yield from batches(read(first, last))

    def send(points: Sequence[models.PointStruct]) -> int:
        call = partial(connection.client.upsert, collection, list(points), wait=True)
        persistently(connection.server, call, progress.note, stop=stop)
        return len(points)

    sent, stop = 0, Event()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="upload")
    running: set[Future[int]] = set()
    try:
        for batch in missing():
            running.add(pool.submit(send, batch))
            if len(running) >= _AHEAD * at_once:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                sent += _told(done, progress)
        sent += _told(wait(running).done, progress)
    finally:
        stop.set()  # where one batch failed, or somebody interrupts, the others wait no longer
        pool.shutdown(cancel_futures=True)
    progress.finish()
    return sent


def _told(done: set[Future[int]], progress: Progress) -> int:
    sent = sum(future.result() for future in done)
    progress.advance(sent)
    return sent


def batches(points: Sequence[models.PointStruct], most: int = BATCH_BYTES) -> Iterator[list[models.PointStruct]]:
    """The points in runs of at most so many bytes of a request; a larger point comes alone."""
    batch: list[models.PointStruct] = []
    total = 0
    for point in points:
        own = size(point)
        if batch and total + own > most:
            yield batch
            batch, total = [], 0
        batch.append(point)
        total += own
    if batch:
        yield batch
