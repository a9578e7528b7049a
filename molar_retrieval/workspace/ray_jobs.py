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
from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace import jobs
from molar_retrieval.workspace.jobs import MadeShards, Runner, Shard, ShardJob

PORT = 10001  # where Ray listens for programs, unless it is told otherwise
PATIENCE = 300.0  # seconds without a worker after which a run ends: the cluster has no room
LOOK = 1.0  # seconds between two looks whether somebody still wants the result
_ANSWERS = 60.0  # seconds that a cluster has to say what machines it has
_LEAVE = 15.0  # seconds that the process in between has to take its leave of the cluster
_PROBE = "/ray.rpc.RayletDriver/ClusterInfo"
_FOR_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "10", "RAY_BACKEND_LOG_LEVEL": "error"}
"""No usage statistics; a program or a head that is gone is waited for so many seconds."""
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
        token = None if self.token is not None else os.environ.get("RAY_AUTH_TOKEN")
        if not token:  # as Ray looks for one
            file = self.token or Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
            with suppress(OSError, UnicodeDecodeError):
                token = file.read_text("utf-8").strip() or None
        found = self.access(token)
        if found is ClusterAccess.UNREACHABLE:
            raise BackendError(
                f"the cluster at {self.url} does not answer", "start it with `ray start --head`, or correct its address"
            )
        if found is ClusterAccess.REFUSED:
            raise BackendError(
                f"the cluster at {self.url} refuses this token" if token else f"{self.url} asks for a token",
                "name the file that has it: MOLAR_CLUSTER_TOKEN_FILE, or RAY_AUTH_TOKEN_PATH as Ray has it",
            )

    def access(self, token: str | None = None, timeout: float = 3.0) -> ClusterAccess:
        """How the cluster answers a token, or none."""
        import grpc

        proof = () if token is None else (("authorization", f"Bearer {token}"),)
        with grpc.insecure_channel(self.netloc) as channel:
            try:
                channel.unary_unary(_PROBE)(b"", timeout=timeout, metadata=proof)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    return ClusterAccess.REFUSED
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    return ClusterAccess.UNREACHABLE
        return ClusterAccess.OPEN


def require_ray() -> None:
    """Raise a BackendError, which names the extra, where Ray is not installed."""
    if find_spec("ray") is None:
        raise BackendError(
            "a cluster needs Ray, which is not installed",
            "install it on every machine: `pip install 'molar-retrieval[cluster]'`; without --cluster nothing needs it",
        )


class RayRunner(Runner):
    """Workers on the machines of a Ray cluster; at most ``workers``, None: one per CPU, or GPU where the job takes one.

    Raises:
        BackendError: If Ray is not installed.
    """

    def __init__(self, address: ClusterAddress, workers: int | None = None) -> None:
        require_ray()
        self._address, self._workers = address, workers

    def _made(self, job: ShardJob, missing: Sequence[Shard], progress: Progress) -> MadeShards:
        shards = {shard.number: shard for shard in missing}
        with closing(remote_results(self._address, progress, make_shards, job, missing, self._workers)) as results:
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
    context = jobs.IsolatedContext()
    ours, theirs = context.Pipe()
    by_main = current_thread() is main_thread()
    driven = jobs.packed(_drive, address, work, arguments)
    process = context.Process(target=jobs.begin_watching, args=(driven, by_main, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            try:
                if timeout is not None and not ours.poll(timeout):
                    raise BackendError(
                        f"the cluster at {address.url} answers, but does not say which machines it has",
                        "wait a moment, or look at its log",
                    )
                told = ours.recv()
            except (EOFError, ConnectionError) as error:
                raise BackendError(f"the connection to the cluster at {address.url} ended", _AGAIN) from error
            if told is None:
                return
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
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # what it has to say comes as an error
        for last in (False, True):  # a busy head has 30 seconds to start a process for a program
            try:
                ray.init(address.url, log_to_driver=False, logging_level=logging.CRITICAL, namespace="molar")
                break
            except Exception as error:
                if last:
                    raise ConnectionError(str(error) or type(error).__name__) from error
        for told in work(*arguments, wanted):
            wanted.send(told)
        wanted.send(None)
    except (UnwantedError, BrokenPipeError):
        return
    except (RayError, ConnectionError, TimeoutError) as error:
        said = str(error).strip().splitlines()[-1:] or [type(error).__name__]  # before that there may be a traceback
        wanted.send(BackendError(f"the cluster at {address.url} does not answer, or no longer: {said[0]}", _AGAIN))
    except Exception as error:
        wanted.send(portable(error))
    finally:
        ray.shutdown()


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
        try:
            check_machine(folder, version)
            self._process = jobs.WorkingProcess(pickle.loads(job))
        except Exception as error:
            return (), portable(error)
        return (), None

    def make(self, shard: Shard) -> _Outcome:
        """Make one shard."""
        try:
            return tuple(self._process.work(shard)), None
        except Exception as error:
            return (), portable(error)


def check_machine(folder: str, version: str) -> None:
    """Raise an error where this machine cannot do the work: it has another molar, or no folder of the result."""
    here = socket.gethostname()
    if version != __version__:
        raise BackendError(f"{here} has molar {__version__}, not {version}", "install the same on every machine")
    if not Path(folder).is_dir():
        raise DataError(
            f"{here} has no folder {folder}",
            "have catalogue, workspace and result on storage that all machines have under the same path",
        )


def no_room(who: str, unit: str) -> BackendError:
    """The error that the cluster has no room for a worker or a rank."""
    return BackendError(f"no {who} could begin for {PATIENCE:.0f} seconds: the cluster has no free {unit}", _AGAIN)


def make_shards(
    job: ShardJob, shards: Sequence[Shard], workers: int | None, wanted: Connection
) -> Iterator[tuple[int, Sequence[str]] | str]:
    """Have actors make shards: (number, notes) of each, and sentences about what happens.

    An actor that dies is replaced, and its shard goes back to those that wait.
    """
    import ray
    from ray.exceptions import RayActorError

    unit = "GPU" if job.gpu and ray.cluster_resources().get("GPU") else "CPU"
    size = min(workers or max(1, int(ray.cluster_resources().get(unit, 0))), len(shards))
    new_actor = ray.remote(**{f"num_{unit.lower()}s": 1}, max_restarts=0)(ShardWorker)
    opening = pickle.dumps(job), str(job.path(shards[0].number).parent), __version__
    busy: dict[Any, tuple[Any, Shard | str]] = {}  # actors and what they are at, by the call that ends it
    waiting, left, deaths, to_begin, seen = deque(shards), len(shards), 0, size, monotonic()
    yield f"{job.task}: {plural(left, 'shard')} for up to {plural(size, 'worker')} of the cluster"
    while left:
        for actor in (new_actor.remote() for _ in range(to_begin)):
            busy[actor.begin.remote()] = actor, _BEGINS
        to_begin = 0
        done, _ = ray.wait(list(busy), num_returns=1, timeout=LOOK)
        require_wanted(wanted)
        if not done and monotonic() - seen > PATIENCE and all(task == _BEGINS for _, task in busy.values()):
            raise no_room("worker", "CPU")
        for call in done:
            seen = monotonic()
            actor, task = busy.pop(call)
            shard = task if isinstance(task, Shard) else None
            try:
                notes, error = ray.get(call)
            except RayActorError:
                waiting.extend([] if shard is None else [shard])
                deaths, to_begin = deaths + 1, to_begin + 1
                if deaths > 2 * size + 2:
                    raise jobs.ended_at(job, waiting) from None
                yield "a worker of the cluster was lost" + (f": shard {shard.number} is made again" if shard else "")
                continue
            if error is not None:
                raise error
            if shard is not None:
                left, deaths = left - 1, 0
                yield shard.number, notes
            if task == _BEGINS:
                busy[actor.open.remote(*opening)] = actor, _OPENS
            elif waiting:
                task = waiting.popleft()
                busy[actor.make.remote(task)] = actor, task
            else:
                ray.kill(actor)
