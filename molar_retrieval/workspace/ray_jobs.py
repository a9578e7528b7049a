"""Shards of a work on the machines of a Ray cluster, and who is asked where there is one.

Another process speaks to the cluster, as Ray may end the one that does where the head is lost. On the cluster there are
actors and nothing else: each opens the job once and makes one shard after the other. What is made lies in files, so Ray
moves no data, and what an actor had in hand when it died is made again by another one.
"""

import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from molar_retrieval import __version__
from molar_retrieval.errors import BackendError, DataError, MolarError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace.jobs import (
    IsolatedContext,
    MadeShards,
    Runner,
    Shard,
    ShardJob,
    WorkingProcess,
    begin_watching,
    ended_at,
    packed,
)

PORT = 10001
"""Where Ray listens for programs that use a cluster, unless it is told otherwise."""
PATIENCE = 300.0
"""Seconds without a worker after which a run ends: the cluster has no room."""
LOOK = 1.0
"""Seconds between two looks whether somebody still wants the result."""
_PROBE = "/ray.rpc.RayletDriver/ClusterInfo"
_FOR_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "10", "RAY_BACKEND_LOG_LEVEL": "error"}
"""No usage statistics; a program or a head that is gone is waited for so many seconds."""
_ANSWERS = 60.0  # seconds that a cluster has to say what machines it has
_LEAVE = 15.0  # seconds that the process in between has to take its leave of the cluster
_BEGINS, _OPENS = "begins", "opens"
_Outcome = tuple[Sequence[str], Exception | None]
_AGAIN = "see `molar cluster status`; then run the same command again, what is done is kept"


class ClusterAccess(StrEnum):
    """How a cluster answers somebody without a token."""

    REFUSED = "refused"
    OPEN = "open"  # whoever reaches its ports can run any program on it
    UNREACHABLE = "unreachable"  # nothing answers there


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster: ``ray://HOST:PORT``, and the file with its token; None: the environment may hold one."""

    url: str
    token: Path | None = None

    @property
    def netloc(self) -> str:
        """Host and port."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        return f"{f'[{host}]' if ':' in host else host}:{parts.port or PORT}"

    def environment(self) -> dict[str, str]:
        """What Ray reads of a process that uses the cluster."""
        with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        return {**os.environ, **_FOR_RAY, **({} if self.token is None else with_token)}

    def require(self) -> None:
        """Raise a BackendError where nothing answers, or the token is not the cluster's: Ray would try for minutes."""
        found = self.access(self._secret())
        if found is ClusterAccess.UNREACHABLE:
            raise BackendError(
                f"the cluster at {self.url} does not answer", "start it with `ray start --head`, or correct its address"
            )
        if found is ClusterAccess.REFUSED:
            raise BackendError(
                f"the cluster at {self.url} refuses this token" if self._secret() else f"{self.url} asks for a token",
                "name the file that has it: MOLAR_CLUSTER_TOKEN_FILE, or RAY_AUTH_TOKEN_PATH as Ray has it",
            )

    def access(self, token: str | None = None, timeout: float = 3.0) -> ClusterAccess:
        """How the cluster answers a token, or none."""
        import grpc

        proof = () if token is None else (("authorization", f"Bearer {token}"),)
        answers = {
            grpc.StatusCode.UNAUTHENTICATED: ClusterAccess.REFUSED,
            grpc.StatusCode.UNAVAILABLE: ClusterAccess.UNREACHABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED: ClusterAccess.UNREACHABLE,
        }
        with grpc.insecure_channel(self.netloc) as channel:
            try:
                channel.unary_unary(_PROBE)(b"", timeout=timeout, metadata=proof)
            except grpc.RpcError as error:
                return answers.get(error.code(), ClusterAccess.OPEN)
        return ClusterAccess.OPEN

    def _secret(self) -> str | None:
        """The token, from where Ray would have it."""
        given = os.environ.get("RAY_AUTH_TOKEN")
        if self.token is None and given:
            return given
        file = self.token or Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        with suppress(OSError, UnicodeDecodeError):
            return file.read_text("utf-8").strip() or None
        return None


def require_ray() -> None:
    """Raise a BackendError, which names the extra, where Ray is not installed."""
    if find_spec("ray") is None:
        raise BackendError(
            "a cluster needs Ray, which is not installed",
            "install it on every machine: `pip install 'molar-retrieval[cluster]'`; without it --cluster local works"
            " here",
        )


class RayRunner(Runner):
    """Workers on the machines of a Ray cluster.

    Args:
        address: Of the cluster.
        workers: How many at once, at most; None: one per CPU, or GPU where the job takes one.
        least: Units of work from which the cluster pays.
        here: What does smaller work; None: the cluster does all of it.
    """

    def __init__(
        self, address: ClusterAddress, workers: int | None = None, *, least: int = 0, here: Runner | None = None
    ) -> None:
        require_ray()
        self._address, self._workers, self._least, self._here = address, workers, least, here

    def for_work(self, task: str, units: int, progress: Progress) -> Runner:
        """Choose by size, and tell the progress which and why."""
        if self._here is None:
            return self
        large = units >= self._least
        where = "the cluster does it" if large else "this machine does it, without the cluster"
        if units:
            progress.note(f"{task}: {units:,} to do, a cluster pays from {self._least:,}: {where}")
        return RayRunner(self._address, self._workers) if large else self._here

    def _made(self, job: ShardJob, missing: Sequence[Shard], progress: Progress) -> MadeShards:
        shards = {shard.number: shard for shard in missing}
        with closing(remote_results(self._address, progress, ShardActors, job, missing, self._workers)) as results:
            for number, notes in results:
                yield shards[number], notes


@dataclass(frozen=True)
class ClusterNode:
    """A machine of a cluster, and what it gives: processors, and memory in bytes."""

    name: str
    address: str
    alive: bool
    cpus: int
    gpus: int
    memory: int


def cluster_nodes(address: ClusterAddress) -> list[ClusterNode]:
    """The machines of a cluster."""
    with closing(remote_results(address, SILENT, _nodes, timeout=_ANSWERS)) as results:
        found: list[ClusterNode] = next(results)
        return found


def _nodes(_wanted: Connection) -> Iterator[list[ClusterNode]]:
    import ray

    found = []
    for node in ray.nodes():
        sizes = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU", "memory"))
        found.append(ClusterNode(node["NodeManagerHostname"], node["NodeManagerAddress"], bool(node["Alive"]), *sizes))
    yield found


def remote_results(
    address: ClusterAddress,
    progress: Progress,
    work: Callable[..., Iterable[Any]],
    *arguments: Any,
    timeout: float | None = None,
) -> Generator[Any]:
    """What a work on the cluster yields, in a process in between, which is connected to it.

    The work gets a connection as its last argument, see :func:`require_wanted`. Its sentences are told the progress,
    its errors are raised here. The process ends with this one, and where nobody listens.

    Raises:
        BackendError: If the cluster does not answer, or nothing comes for ``timeout`` seconds.
    """
    address.require()
    context = IsolatedContext()
    ours, theirs = context.Pipe()
    by_main = current_thread() is main_thread()
    driven = packed(_drive, address, work, arguments)
    process = context.Process(target=begin_watching, args=(driven, by_main, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while (told := _received(ours, address, timeout)) is not None:
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


def _received(ours: Connection, address: ClusterAddress, timeout: float | None) -> Any:
    try:
        if timeout is not None and not ours.poll(timeout):
            raise BackendError(
                f"the cluster at {address.url} answers, but does not say which machines it has",
                "wait a moment, or look at its log",
            )
        return ours.recv()
    except (EOFError, ConnectionError) as error:
        raise BackendError(f"the connection to the cluster at {address.url} ended", _AGAIN) from error


class UnwantedError(Exception):
    """The process that wanted the work is gone, or wants no more."""


def require_wanted(wanted: Connection) -> None:
    """Raise an :class:`UnwantedError` where nobody wants the results of a work any more."""
    try:
        if wanted.poll():
            raise UnwantedError
    except (EOFError, OSError) as error:
        raise UnwantedError from error


def _drive(
    address: ClusterAddress, work: Callable[..., Iterable[Any]], arguments: Sequence[Any], wanted: Connection
) -> None:
    """Send what comes of a work that is done on the cluster, and at last an error or None."""
    os.environ.update(address.environment())
    import ray
    from ray.exceptions import RayError

    try:
        _connect(address.url)
        for told in work(*arguments, wanted):
            wanted.send(told)
        wanted.send(None)
    except (UnwantedError, BrokenPipeError):
        return
    except (RayError, ConnectionError, TimeoutError) as error:
        wanted.send(_gone(address.url, error))
    except Exception as error:
        wanted.send(portable(error))
    finally:
        ray.shutdown()


def _connect(url: str) -> None:
    """Connect, at the second attempt too: Ray gives a busy head 30 seconds to start a process for a program."""
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what it has to say comes as an error
    for last in (False, True):
        try:
            ray.init(url, log_to_driver=False, logging_level=logging.CRITICAL, namespace="molar")
            return
        except Exception as error:
            if last:
                raise _gone(url, error) from error


def _gone(url: str, error: Exception) -> BackendError:
    said = str(error).strip().splitlines()[-1:] or [type(error).__name__]  # before that there may be a traceback
    return BackendError(f"the cluster at {url} does not answer, or no longer: {said[0]}", _AGAIN)


def portable(error: Exception) -> Exception:
    """An error that can be unpacked elsewhere."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class ShardWorker:
    """An actor; it returns (notes, error), as Ray would wrap what is raised."""

    def begin(self) -> _Outcome:
        """Be there: how long it takes to open a job says nothing of whether the cluster has room."""
        return (), None

    def open(self, job: bytes, folder: str, version: str) -> _Outcome:
        """Unpack and open the job, on a machine that must have the same molar, and the folder of the result."""
        if (unfit := machine_fault(folder, version)) is not None:
            return (), unfit
        try:
            self._process = WorkingProcess(pickle.loads(job))
        except Exception as error:
            return (), portable(error)
        return (), None

    def make(self, shard: Shard) -> _Outcome:
        """Make one shard."""
        try:
            return tuple(self._process.work(shard)), None
        except Exception as error:
            return (), portable(error)


def machine_fault(folder: str, version: str) -> MolarError | None:
    """Why this machine cannot do the work: it has another molar, or no folder of the result."""
    here = socket.gethostname()
    if version != __version__:
        return BackendError(f"{here} has molar {__version__}, not {version}", "install the same on every machine")
    if not Path(folder).is_dir():
        return DataError(
            f"{here} has no folder {folder}",
            "have catalogue, workspace and result on storage that all machines have under the same path",
        )
    return None


def no_room(who: str, unit: str) -> BackendError:
    """The error that the cluster has no room for a worker or a rank."""
    return BackendError(
        f"no {who} could begin for {PATIENCE:.0f} seconds: the cluster has no free {unit}",
        "see `molar cluster status`; run the same command again, what is done is kept",
    )


class ShardActors:
    """Actors at work: one that dies is replaced, and its shard goes back to those that wait."""

    def __init__(self, job: ShardJob, shards: Sequence[Shard], workers: int | None, wanted: Connection) -> None:
        import ray

        self._ray = ray
        self._waiting, self._count, self._wanted = deque(shards), len(shards), wanted
        self._opening = pickle.dumps(job), str(job.path(shards[0].number).parent), __version__
        self._job, self._deaths = job, 0
        self._busy: dict[Any, tuple[Any, Shard | str]] = {}  # actors and what they are at, by what comes of it
        unit = "GPU" if job.gpu and ray.cluster_resources().get("GPU") else "CPU"
        self._actor = ray.remote(**{f"num_{unit.lower()}s": 1}, max_restarts=0)(ShardWorker)
        self._size = min(workers or max(1, int(ray.cluster_resources().get(unit, 0))), len(shards))

    def __iter__(self) -> Iterator[tuple[int, Sequence[str]] | str]:
        """(number, notes) of every shard that is made, and sentences about what happens."""
        from ray.exceptions import RayActorError

        left = self._count
        yield f"{self._job.task}: {plural(left, 'shard')} for up to {plural(self._size, 'worker')} of the cluster"
        for _ in range(self._size):
            self._begin()
        seen = monotonic()
        while left:
            done, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=LOOK)
            require_wanted(self._wanted)
            if not done and monotonic() - seen > PATIENCE and all(task == _BEGINS for _, task in self._busy.values()):
                raise no_room("worker", "CPU")
            for reference in done:
                seen = monotonic()
                actor, task = self._busy.pop(reference)
                try:
                    notes, error = self._ray.get(reference)
                except RayActorError:
                    yield self._replace(task)
                    continue
                if error is not None:
                    raise error
                if isinstance(task, Shard):
                    left, self._deaths = left - 1, 0
                    yield task.number, notes
                self._hand(actor, task)

    def _begin(self) -> None:
        actor = self._actor.remote()
        self._busy[actor.begin.remote()] = actor, _BEGINS

    def _hand(self, actor: Any, done: Shard | str) -> None:
        """Give an actor what comes next: the job, a shard, or its leave."""
        if done == _BEGINS:
            self._busy[actor.open.remote(*self._opening)] = actor, _OPENS
        elif self._waiting:
            shard = self._waiting.popleft()
            self._busy[actor.make.remote(shard)] = actor, shard
        else:
            self._ray.kill(actor)

    def _replace(self, task: Shard | str) -> str:
        self._deaths += 1
        if isinstance(task, Shard):
            self._waiting.append(task)
        if self._deaths > 2 * self._size + 2:
            raise ended_at(self._job, self._waiting)
        self._begin()
        again = f": shard {task.number} is made again" if isinstance(task, Shard) else ""
        return f"a worker of the cluster was lost{again}"
