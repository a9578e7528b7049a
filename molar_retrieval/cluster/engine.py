"""What actors of a Ray cluster do: shards of a work, or a training together; the only module that imports ray.

Actors and nothing else: each opens the job once and makes one shard after the other, or goes round by round with the
others. What is made lies in files, so Ray moves no data, and what an actor had in hand when it died is made again by
another one. Ranks of a training talk to each other by torch.distributed, as those of `torchrun` do.
"""

import logging
import os
import pickle
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from molar_retrieval import __version__
from molar_retrieval.errors import BackendError, DataError, MolarError
from molar_retrieval.reports.wording import plural
from molar_retrieval.runner import Shard, ShardJob, WorkingProcess, ended_at
from molar_retrieval.training.group import PackedJob

_PATIENCE = 300.0  # seconds without a worker after which a run ends: the cluster has no room
_BEGINS, _OPENS = "begins", "opens"
_LOOK = 1.0  # seconds between two looks whether somebody still wants the result
_RANKS_WAIT = timedelta(minutes=30)  # for each other: one that died they need not wait for, as Ray tells of it
_BARREN = 3  # times in a row that ranks end before a round does: then it is no accident
_ADDRESS_OF_INTERFACE = 0x8915


_Outcome = tuple[Any, Exception | None]


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
        if (unfit := _unfit(folder, version)) is not None:
            return unfit
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


class Rank:
    """An actor that is one of the processes which train a network together; it returns (what is told, an error)."""

    def begin(self) -> tuple[tuple[str, str, int], None]:
        """Be there; tells the name and the address of the machine, and a port that is free there."""
        with socket.socket() as any_one:
            any_one.bind(("", 0))
            port: int = any_one.getsockname()[1]
        return (socket.gethostname(), ray.util.get_node_ip_address(), port), None

    def open(self, job: PackedJob, version: str, index: int, count: int, first: tuple[str, int]) -> _Outcome:
        """Be one of so many, on a machine that is as a worker's; the first one listens at that address and port."""
        if (unfit := _unfit(str(job.folder), version)) is not None:
            return None, unfit
        # Each sees one GPU only, so all are the first one of their machine.
        said: dict[str, object] = {"RANK": index, "WORLD_SIZE": count, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        said |= {"MASTER_ADDR": first[0], "MASTER_PORT": first[1], "OMP_NUM_THREADS": job.threads}
        os.environ |= {name: str(value) for name, value in said.items()}
        if not job.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if (name := _interface(ray.util.get_node_ip_address())) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # else that of the host's name, which may be the loopback
        try:
            from threadpoolctl import threadpool_limits

            from molar_retrieval.training.processes import Processes

            self._rounds = pickle.loads(job.packed).rounds(Processes(index, count, _RANKS_WAIT))
            threadpool_limits(job.threads)
        except Exception as error:
            return None, _portable(error)
        return None, None

    def round(self) -> _Outcome:
        """Train until there is something to tell; that is None at the end."""
        try:
            return next(self._rounds, None), None
        except Exception as error:
            return None, _portable(error)


def drive(url: str, wanted: Connection, work: Callable[[], Iterable[Any]]) -> None:
    """Send what comes of a work that is done on the cluster, and at last an error or None.

    It ends where nobody listens any more.
    """
    try:
        _connect(url)
        for told in work():
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
            _heed(self._wanted)
            if not done and monotonic() - seen > _PATIENCE and all(task == _BEGINS for _, task in self._busy.values()):
                raise _no_room("worker", "CPU")
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


class Team:
    """Ranks that train one network: they begin together, go round by round, and end together.

    Where one of them dies, or loses the others, all end, and as many as there is room for begin again, from the last
    round that is whole.
    """

    def __init__(self, job: PackedJob, ranks: int, wanted: Connection) -> None:
        self._job, self._ranks, self._wanted = job, ranks, wanted
        self._unit = "GPU" if job.gpu and ray.cluster_resources().get("GPU") else "CPU"
        needed = {"num_cpus": job.threads} | ({"num_gpus": 1} if self._unit == "GPU" else {})
        self._actor = ray.remote(**needed, max_restarts=0)(Rank)

    def rounds(self) -> Iterator[list[Any] | str]:
        """All that was told so far, whenever there is more, and sentences about what happens."""
        told, failed, task = 0, 0, self._job.task
        while True:
            try:
                for said in self._trained():
                    if isinstance(said, str):
                        yield said
                    elif len(said) > told:
                        told, failed = len(said), 0
                        yield said
                return
            except (RayActorError, _RankError) as error:
                failed += 1
                if failed == _BARREN:
                    raise self._ended(error) from error
                yield f"{task}: a rank {_what_happened(error)}; all go on from the last whole round"

    def _ended(self, error: Exception) -> Exception:
        if isinstance(error, _RankError):
            return error.reason
        return BackendError(
            f"{self._job.task}: ranks are killed before they have finished a round",
            "often memory is short: use fewer ranks, then run the same command again; what is done is kept",
        )

    def _trained(self) -> Iterator[list[Any] | str]:
        count = self._room()
        ranks = [self._actor.remote() for _ in range(count)]
        try:
            places = self._all([rank.begin.remote() for rank in ranks], _PATIENCE)
            where = ", ".join(f"{name} ({number})" for name, number in Counter(name for name, *_ in places).items())
            asked = "" if count == self._ranks else f", of {self._ranks:,} asked for"
            yield f"{self._job.task}: {plural(count, 'rank')}, one per {self._unit}, on {where}{asked}"
            given = self._job, __version__
            self._all([rank.open.remote(*given, n, count, places[0][1:]) for n, rank in enumerate(ranks)])
            while (scores := self._all([rank.round.remote() for rank in ranks])[0]) is not None:
                yield scores
        finally:
            for rank in ranks:  # those that wait for a dead one as well
                with suppress(RayError, ConnectionError):
                    ray.kill(rank)

    def _room(self) -> int:
        """For how many ranks of those that were asked for the cluster has room now, at least one."""
        units = int(ray.cluster_resources().get(self._unit, 0))
        return max(1, min(self._ranks, units // (self._job.threads if self._unit == "CPU" else 1)))

    def _all(self, calls: Sequence[Any], patience: float | None = None) -> list[Any]:
        """What calls of all ranks tell; the first error of one of them is raised at once."""
        told, left, began = dict[Any, Any](), list(calls), monotonic()
        while left:
            done, left = ray.wait(left, num_returns=1, timeout=_LOOK)
            _heed(self._wanted)
            if not done and patience is not None:
                if self._room() < len(calls):
                    raise _RankError(RuntimeError("the cluster has become smaller"))
                if monotonic() - began > patience:
                    raise _no_room("rank", self._unit)
            for call in done:
                told[call], error = ray.get(call)
                if error is not None:
                    raise error if isinstance(error, MolarError) else _RankError(error)
        return [told[call] for call in calls]


class _RankError(Exception):
    """A rank had an error that is not meant for people: it has lost the others, or its memory is too small."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _what_happened(error: Exception) -> str:
    if not isinstance(error, _RankError):
        return "of the cluster was lost"
    return f"failed: {(str(error).strip().splitlines() or [type(error.reason).__name__])[0]}"


def _unfit(folder: str, version: str) -> MolarError | None:
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


def _heed(wanted: Connection) -> None:
    try:
        if wanted.poll():
            raise UnwantedError
    except (EOFError, OSError) as error:
        raise UnwantedError from error


def _no_room(who: str, unit: str) -> BackendError:
    return BackendError(
        f"no {who} could begin for {_PATIENCE:.0f} seconds: the cluster has no free {unit}",
        "see `molar cluster status`; run the same command again, what is done is kept",
    )


def _interface(address: str) -> str | None:
    """The name of the network interface that has an address (IPv4); None where that is not known."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_one:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                found = fcntl.ioctl(any_one, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return None


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
