"""Who trains where there is a cluster: workers of it, where that was asked for or it has more GPUs; else none there."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from molar_retrieval.cluster.address import ClusterAddress
from molar_retrieval.cluster.runner import enter, heard, nodes_of
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress
from molar_retrieval.training.group import Group, GroupJob, PackedJob

_ANSWERS = 60.0  # seconds that a cluster has to say what machines it has


@dataclass(frozen=True)
class RanksOnCluster(Group):
    """Ranks on the machines of a Ray cluster.

    Attributes:
        address: Of the cluster.
        ranks: How many; None: one per GPU, where there are more than here; 0: none.
        least: Interactions from which it pays; 0: it was asked for.
    """

    address: ClusterAddress
    ranks: int | None
    least: int = 0

    def for_work(self, interactions: int, *, gpu: bool, progress: Progress) -> "RanksOnCluster | None":
        """The same with a number of ranks, or None; the progress is told why, where that is not plain."""
        if self.ranks == 0 or (self.ranks is None and not gpu):
            return None
        if interactions < self.least:
            if self.ranks is not None:
                progress.note(
                    f"training: {interactions:,} interactions, a cluster pays from {self.least:,}: this machine does it"
                )
            return None
        ranks = self.ranks or self._gpus(progress)
        return replace(self, ranks=ranks) if ranks else None

    def _gpus(self, progress: Progress) -> int:
        """How many the cluster has, if that is more than this machine has; else 0."""
        import torch

        try:
            nodes = nodes_of(self.address, _ANSWERS)
        except BackendError as error:
            if not self.least:
                raise
            progress.note(f"{error.message}, and may have GPUs: this machine trains")
            return 0
        there = sum(node["gpus"] for node in nodes if node["alive"])
        return there if there > torch.cuda.device_count() else 0

    def rounds(self, job: GroupJob, progress: Progress) -> Generator[list[dict[str, Any]]]:
        """See :class:`Group`."""
        assert self.ranks
        self.address.require()
        with closing(heard(self.address, progress, _drive, self.address, PackedJob.of(job), self.ranks)) as told:
            yield from told


def _drive(address: ClusterAddress, job: PackedJob, ranks: int, wanted: Connection) -> None:
    enter(address)
    from molar_retrieval.cluster import engine

    engine.drive(address.url, wanted, lambda: engine.Team(job, ranks, wanted).rounds())
