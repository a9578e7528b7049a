"""The shards of a work, handed out to actors of a Ray cluster; the only module that imports ray.

Actors and nothing else: each opens the job once and makes one shard after the other. What is made lies in files, so Ray
moves no data, and what an actor had in hand when it died is made again by another one.
"""

import logging
import pickle
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from molar_retrieval import __version__
from molar_retrieval.errors import BackendError, DataError, MolarError
from molar_retrieval.pages.words import plural
from molar_retrieval.runner import Shard, ShardJob, WorkingProcess, ended_at

_PATIENCE = 300.0  # seconds without a worker after which a run ends: the cluster has no room
_BEGINS, _OPENS = "begins", "opens"
_LOOK = 1.0  # seconds between two looks whether somebody still wants the result


class UnwantedError(Exception):
    """The process that wanted the work is gone, or wants no more."""


class ShardWorker:
    """What an actor is: it returns errors, as Ray would wrap what is raised."""

    def __init__(self) -> None:
        self._process: WorkingProcess | None = None

    def begin(self) -> None:
        """Be there: how long it takes to open a job says nothing of whether the cluster has room."""

    def open(self, packed: bytes, folder: str, version: str) -> Exception | None:
        """Unpack and open the job, on a machine that must have the same molar, and the folder of the result."""
        here = socket.gethostname()
        if version != __version__:
            return BackendError(f"{here} has molar {__version__}, not {version}", "install the same on every machine")
        if not Path(folder).is_dir():
            return DataError(
                f"{here} has no folder {folder}",
                "have catalogue, workspace and result on storage that all machines have under the same path",
            )
        try:
            self._process = WorkingProcess(pickle.loads(packed))
        except Exception as error:
            return _portable(error)
        return None

    def make(self, shard: Shard) -> tuple[Sequence[str], Exception | None]:
        """Make one shard; returns its notes."""
        assert self._process is not None
        try:
            return tuple(self._process.work(shard)), None
        except Exception as error:
            return (), _portable(error)


def drive(job: ShardJob, shards: Sequence[Shard], url: str, workers: int | None, wanted: Connection) -> None:
    """Have shards made, and send what comes of it: (number, notes) of a shard, a sentence, or at last an error or None.

    It ends where nobody listens any more.
    """
    try:
        _connect(url)
        for told in Pool(job, shards, workers, wanted).made():
            wanted.send(told)
        wanted.send(None)
    except (UnwantedError, BrokenPipeError):
        return
    except MolarError as error:
        wanted.send(error)
    except (RayError, ConnectionError, TimeoutError) as error:
        wanted.send(_gone(url, error))
    except Exception as error:
        wanted.send(_portable(error))
    finally:
        ray.shutdown()


def nodes(url: str) -> list[dict[str, Any]]:
    """The machines of a cluster: name, address, whether it is alive, how many CPUs and GPUs, and bytes of memory."""
    _connect(url)
    try:
        return [
            {
                "name": node["NodeManagerHostname"],
                "address": node["NodeManagerAddress"],
                "alive": bool(node["Alive"]),
                "cpus": int(node["Resources"].get("CPU", 0)),
                "gpus": int(node["Resources"].get("GPU", 0)),
                "memory": int(node["Resources"].get("memory", 0)),
            }
            for node in ray.nodes()
        ]
    finally:
        ray.shutdown()


class Pool:
    """Actors at work: one that dies is replaced, and its shard goes back to those that wait."""

    def __init__(self, job: ShardJob, shards: Sequence[Shard], workers: int | None, wanted: Connection) -> None:
        self._waiting, self._count, self._wanted = deque(shards), len(shards), wanted
        self._opening = pickle.dumps(job), str(job.path(shards[0].number).parent), __version__
        self._job, self._deaths = job, 0
        self._busy: dict[Any, tuple[Any, Shard | str]] = {}  # actors and what they are at, by what comes of it
        unit = "GPU" if job.gpu and ray.cluster_resources().get("GPU") else "CPU"
        self._actor = ray.remote(**{f"num_{unit.lower()}s": 1}, max_restarts=0)(ShardWorker)
        self._size = min(workers or max(1, int(ray.cluster_resources().get(unit, 0))), len(shards))

    def made(self) -> Iterator[tuple[int, Sequence[str]] | str]:
        """(number, notes) of every shard that is made, and sentences about what happens."""
        left = self._count
        yield f"{self._job.task}: {plural(left, 'shard')} for up to {plural(self._size, 'worker')} of the cluster"
        for _ in range(self._size):
            self._begin()
        seen = monotonic()
        while left:
            done, _ = ray.wait(list(self._busy), num_returns=1, timeout=_LOOK)
            self._heed()
            if not done and monotonic() - seen > _PATIENCE and all(task == _BEGINS for _, task in self._busy.values()):
                raise BackendError(
                    f"no worker could begin for {_PATIENCE:.0f} seconds: the cluster has no free CPU",
                    "see `molar cluster status`; run the same command again, what is done is kept",
                )
            for reference in done:
                seen = monotonic()
                actor, task = self._busy.pop(reference)
                try:
                    notes = self._taken(ray.get(reference))
                except RayActorError:
                    yield self._replace(task)
                    continue
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
            ray.kill(actor)

    def _replace(self, task: Shard | str) -> str:
        self._deaths += 1
        if isinstance(task, Shard):
            self._waiting.append(task)
        if self._deaths > 2 * self._size + 2:
            raise ended_at(self._job, self._waiting)
        self._begin()
        again = f": shard {task.number} is made again" if isinstance(task, Shard) else ""
        return f"a worker of the cluster was lost{again}"

    @staticmethod
    def _taken(outcome: Any) -> Sequence[str]:
        notes, error = ((), outcome) if outcome is None or isinstance(outcome, Exception) else outcome
        if error is not None:
            raise error
        return notes

    def _heed(self) -> None:
        try:
            if self._wanted.poll():
                raise UnwantedError
        except (EOFError, OSError) as error:
            raise UnwantedError from error


def _connect(url: str) -> None:
    """Connect, at the second attempt too: Ray gives a busy head 30 seconds to start a process for a program."""
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
    return BackendError(
        f"the cluster at {url} does not answer, or no longer: {said[0]}",
        "see `molar cluster status`; then run the same command again, what is done is kept",
    )


def _portable(error: Exception) -> Exception:
    """An error that can be unpacked elsewhere."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
