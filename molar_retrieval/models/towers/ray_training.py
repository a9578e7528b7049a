"""Ranks of a training on the machines of a Ray cluster: so many, or one per GPU where it has more than this machine.

Ranks talk to each other by torch.distributed, as those of `torchrun` do. What they train lies in files, so where one of
them dies, all begin again from the last whole round.
"""

import os
import pickle
import socket
import struct
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from molar_retrieval import __version__
from molar_retrieval.errors import BackendError, MolarError
from molar_retrieval.models.towers.distributed import Group, GroupJob, PackedJob
from molar_retrieval.progress import Progress
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace import ray_jobs
from molar_retrieval.workspace.ray_jobs import LOOK, PATIENCE, ClusterAddress, portable, remote_results, require_wanted

_RANKS_WAIT = timedelta(minutes=30)  # for each other: one that died they need not wait for, as Ray tells of it
_BARREN = 3  # times in a row that ranks end before a round does: then it is no accident
_ADDRESS_OF_INTERFACE = 0x8915
_Outcome = tuple[Any, Exception | None]


@dataclass(frozen=True)
class RayTrainingGroup(Group):
    """Ranks on the machines of a Ray cluster."""

    address: ClusterAddress
    ranks: int | None  # how many; None: one per GPU, where there are more than here; 0: none

    def for_work(self, *, gpu: bool) -> "RayTrainingGroup | None":
        """The same with a number of ranks, or None."""
        ranks = self.ranks
        if ranks is None and gpu:
            import torch

            there = sum(node.gpus for node in ray_jobs.cluster_nodes(self.address) if node.alive)
            ranks = there if there > torch.cuda.device_count() else 0
        return replace(self, ranks=ranks) if ranks else None

    def rounds(self, job: GroupJob, progress: Progress) -> Generator[list[dict[str, Any]]]:
        """See :class:`Group`."""
        assert self.ranks
        with closing(remote_results(self.address, progress, TrainingRanks, PackedJob.of(job), self.ranks)) as told:
            yield from told


class Rank:
    """An actor that is one of the processes which train a network together; it returns (what is told, an error)."""

    def begin(self) -> tuple[tuple[str, str, int], None]:
        """Be there; tells the name and the address of the machine, and a port that is free there."""
        import ray

        with socket.socket() as any_one:
            any_one.bind(("", 0))
            port: int = any_one.getsockname()[1]
        return (socket.gethostname(), ray.util.get_node_ip_address(), port), None

    def open(self, job: PackedJob, version: str, index: int, count: int, first: tuple[str, int]) -> _Outcome:
        """Be one of so many, on a machine that is as a worker's; the first one listens at that address and port."""
        import ray

        # Each sees one GPU only, so all are the first one of their machine.
        said: dict[str, object] = {"RANK": index, "WORLD_SIZE": count, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        said |= {"MASTER_ADDR": first[0], "MASTER_PORT": first[1], "OMP_NUM_THREADS": job.threads}
        os.environ |= {name: str(value) for name, value in said.items()}
        if not job.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if (name := _interface(ray.util.get_node_ip_address())) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # else that of the host's name, which may be the loopback
        try:
            ray_jobs.check_machine(str(job.folder), version)
            from threadpoolctl import threadpool_limits

            from molar_retrieval.models.towers.distributed import Processes

            self._rounds = pickle.loads(job.packed).rounds(Processes(index, count, _RANKS_WAIT))
            threadpool_limits(job.threads)
        except Exception as error:
            return None, portable(error)
        return None, None

    def round(self) -> _Outcome:
        """Train until there is something to tell; that is None at the end."""
        try:
            return next(self._rounds, None), None
        except Exception as error:
            return None, portable(error)


class TrainingRanks:
    """Ranks that train one network: they begin together, go round by round, and end together.

    Where one of them dies, or loses the others, all end, and as many as there is room for begin again, from the last
    round that is whole.
    """

    def __init__(self, job: PackedJob, ranks: int, wanted: Connection) -> None:
        import ray

        self._ray = ray
        self._job, self._ranks, self._wanted = job, ranks, wanted
        self._unit = "GPU" if job.gpu and ray.cluster_resources().get("GPU") else "CPU"
        needed = {"num_cpus": job.threads} | ({"num_gpus": 1} if self._unit == "GPU" else {})
        self._actor = ray.remote(**needed, max_restarts=0)(Rank)

    def __iter__(self) -> Iterator[list[Any] | str]:
        """All that was told so far, whenever there is more, and sentences about what happens."""
        from ray.exceptions import RayActorError

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
                reason = error.reason if isinstance(error, _RankError) else None
                if failed == _BARREN:
                    raise reason or BackendError(
                        f"{task}: ranks are killed before they have finished a round",
                        "often memory is short: use fewer ranks, then run the same command again; what is done is kept",
                    ) from error
                lines = str(error).strip().splitlines() or [type(reason).__name__]
                happened = "of the cluster was lost" if reason is None else f"failed: {lines[0]}"
                yield f"{task}: a rank {happened}; all go on from the last whole round"

    def _trained(self) -> Iterator[list[Any] | str]:
        from ray.exceptions import RayError

        count = self._room()
        ranks = [self._actor.remote() for _ in range(count)]
        try:
            slots = self._all([rank.begin.remote() for rank in ranks], PATIENCE)
            where = ", ".join(f"{name} ({number})" for name, number in Counter(name for name, *_ in slots).items())
            asked = "" if count == self._ranks else f", of {self._ranks:,} asked for"
            yield f"{self._job.task}: {plural(count, 'rank')}, one per {self._unit}, on {where}{asked}"
            given, first = (self._job, __version__), slots[0][1:]
            self._all([rank.open.remote(*given, n, count, first) for n, rank in enumerate(ranks)])
            while (scores := self._all([rank.round.remote() for rank in ranks])[0]) is not None:
                yield scores
        finally:
            for rank in ranks:  # those that wait for a dead one as well
                with suppress(RayError, ConnectionError):
                    self._ray.kill(rank)

    def _room(self) -> int:
        """For how many ranks of those that were asked for the cluster has room now, at least one."""
        units = int(self._ray.cluster_resources().get(self._unit, 0))
        return max(1, min(self._ranks, units // (self._job.threads if self._unit == "CPU" else 1)))

    def _all(self, calls: Sequence[Any], patience: float | None = None) -> list[Any]:
        """What calls of all ranks tell; the first error of one of them is raised at once."""
        told, left, began = dict[Any, Any](), list(calls), monotonic()
        while left:
            done, left = self._ray.wait(left, num_returns=1, timeout=LOOK)
            require_wanted(self._wanted)
            if not done and patience is not None:
                if self._room() < len(calls):
                    raise _RankError(RuntimeError("the cluster has become smaller"))
                if monotonic() - began > patience:
                    raise ray_jobs.no_room("rank", self._unit)
            for call in done:
                told[call], error = self._ray.get(call)
                if error is not None:
                    raise error if isinstance(error, MolarError) else _RankError(error)
        return [told[call] for call in calls]


class _RankError(Exception):
    """A rank had an error that is not meant for people: it has lost the others, or its memory is too small."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


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
