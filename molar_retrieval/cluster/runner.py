"""Who does the shards of a work where there is a cluster: its machines, or this one, by how much there is to do."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import Connection
from threading import current_thread, main_thread
from typing import Any

from molar_retrieval.cluster.address import ClusterAddress, require_ray
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress
from molar_retrieval.runner import Runner, Shard, ShardJob
from molar_retrieval.workers import IsolatedContext, Workers, begin_watching, packed

_LEAVE = 15.0  # seconds that the process in between has to take its leave of the cluster


class OnCluster(Runner):
    """Workers on the machines of a Ray cluster, at most so many at once; None: one per CPU."""

    def __init__(self, address: ClusterAddress, workers: int | None = None) -> None:
        require_ray()
        self._address, self._workers = address, workers

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        self._address.require()
        shards = {shard.number: shard for shard in missing}
        with closing(heard(self._address, progress, _drive, self._address, job, missing, self._workers)) as told:
            for number, notes in told:
                yield shards[number], notes


def heard(address: ClusterAddress, progress: Progress, work: Callable[..., None], *arguments: Any) -> Generator[Any]:
    """What a process in between tells, which speaks to the cluster: Ray may end the one that does where the head goes.

    It does the ``work``, which gets the other end of the connection as its last argument, tells errors, sentences for
    the progress and what is yielded here, and None at the end. It ends with this process, and where nobody listens.
    """
    context = IsolatedContext()
    ours, theirs = context.Pipe()
    by_main = current_thread() is main_thread()
    process = context.Process(target=begin_watching, args=(packed(work, *arguments), by_main, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while (told := _next(ours, address)) is not None:
            if isinstance(told, Exception):
                raise told
            if isinstance(told, str):
                progress.note(told)
            else:
                yield told
    finally:
        ours.close()
        process.join(_LEAVE)
        process.kill()


def _next(ours: Connection, address: ClusterAddress) -> Any:
    try:
        return ours.recv()
    except (EOFError, ConnectionError) as error:
        raise BackendError(
            f"the connection to the cluster at {address.url} ended",
            "see `molar cluster status`; then run the same command again, what is done is kept",
        ) from error


class BySize(Runner):
    """A cluster for work of at least so many units, else what is here; the progress is told which, and why."""

    def __init__(self, here: Runner, cluster: Runner, least: int) -> None:
        self._here, self._cluster, self._least = here, cluster, least

    def for_work(self, task: str, units: int, progress: Progress) -> Runner:
        """Choose, and say why."""
        large = units >= self._least
        where = "the cluster does it" if large else "this machine does it, without the cluster"
        if units:
            progress.note(f"{task}: {units:,} to do, a cluster pays from {self._least:,}: {where}")
        return self._cluster if large else self._here

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        yield from self.for_work(job.task, sum(shard.size for shard in missing), progress)._made(job, missing, progress)


def _drive(
    address: ClusterAddress, job: ShardJob, shards: Sequence[Shard], workers: int | None, wanted: Connection
) -> None:
    enter(address)
    from molar_retrieval.cluster import engine

    engine.drive(address.url, wanted, lambda: engine.Pool(job, shards, workers, wanted).made())


def enter(address: ClusterAddress) -> None:
    """Let this process be one that uses the cluster; before ray is imported."""
    os.environ.update({"RAY_BACKEND_LOG_LEVEL": "error", **address.environment()})


def nodes_of(address: ClusterAddress, timeout: float) -> list[dict[str, Any]]:
    """The machines of a cluster, as :func:`molar_retrieval.cluster.engine.nodes` tells them."""
    address.require()
    with Workers(1, enter, address) as asking:
        try:
            return asking.submit(_nodes, address.url).result(timeout)
        except (TimeoutError, BrokenProcessPool) as error:
            raise BackendError(
                f"the cluster at {address.url} answers, but does not say which machines it has",
                "wait a moment, or look at its log",
            ) from error


def _nodes(url: str) -> list[dict[str, Any]]:
    from molar_retrieval.cluster.engine import nodes

    return nodes(url)
