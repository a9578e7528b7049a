"""The cluster of a shop: machines that do what one would be long at, and who does the work of one call."""

import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase, front_door
from molar.choosing import may_be_set
from molar_retrieval.errors import MissingArtefactError

if TYPE_CHECKING:
    from molar_retrieval.cluster.address import ClusterAddress
    from molar_retrieval.runner import Runner
    from molar_retrieval.training.group import Group

AUTO, LOCAL, CLUSTER = "auto", "local", "cluster"
MANY_COUNTED = 100_000
"""Items counted in blocks from which a cluster pays: fewer are done here in a minute or two for each setting."""
MANY_READ = 20_000
"""People whose histories towers read, from whom on it pays: fewer are read here in a minute."""
MANY_SENT = 200_000
"""Points that are sent to a server, from which on it pays: fewer are sent from here in a minute."""
MANY_SCORES = 2_000_000_000
"""Scores of a test, cases by items, from which on it pays to rank them there: fewer take a minute or two here."""
MANY_TRAINED = 1_000_000
"""Interactions that towers are trained on, from which on it pays to have GPUs of a cluster do it."""
_ANSWERS = 60.0
"""Seconds that a cluster has to say what machines it has."""


@dataclass(frozen=True)
class ClusterNode:
    """A machine of a cluster, as the cluster itself says.

    Attributes:
        name: Of the machine.
        address: In the cluster's network.
        alive: Whether it is there.
        cpus: That it gives.
        gpus: That it gives.
        memory: Bytes that it gives.
    """

    name: str
    address: str
    alive: bool
    cpus: int
    gpus: int
    memory: int


@dataclass(frozen=True)
class ClusterStatus:
    """How a cluster stands.

    Attributes:
        url: Where programs reach it; None: there is none.
        answers: Whether anything answers there.
        asks_for_token: Whether who has no token is turned away.
        processes: Of it on this machine, that `molar cluster up` has started.
        machines: Names of the machines on which that was run for the workspace.
        nodes: What the cluster says of its machines; none where it does not answer.
    """

    url: str | None
    answers: bool = False
    asks_for_token: bool = False
    processes: int = 0
    machines: tuple[str, ...] = ()
    nodes: tuple[ClusterNode, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON-able values."""
        return asdict(self) | {"machines": list(self.machines), "nodes": [asdict(node) for node in self.nodes]}


@front_door
@dataclass(frozen=True)
class Cluster:
    """The machines that do what one would be long at, by Ray."""

    shop: ShopBase

    def up(
        self,
        *,
        join: bool = False,
        host: str | None = None,
        port: int = 10001,
        gcs_port: int = 6379,
        cpus: int | None = None,
    ) -> ClusterStatus:
        """Give this machine to the cluster of the workspace, which asks for a token; what runs already, stays.

        Args:
            join: Join the machine on which this was called first; the workspace is on storage that both see.
            host: The address of this machine for others; None: that of the network by which it reaches them.
            port: Where programs reach the cluster.
            gcs_port: Where further machines reach it.
            cpus: How many of its CPUs; None: all.

        Raises:
            MissingArtefactError: If nothing was made yet, or there is nothing to join.
            SettingsError: If another machine is the head, or the system is not Linux.
            BackendError: If Ray does not start, or the extra ``cluster`` is not installed.
        """
        from molar_retrieval.cluster import local

        local.up(self.shop.opened().root, join=join, host=host, port=port, gcs_port=gcs_port, cpus=cpus)
        return self.status()

    def status(self, on: str = AUTO) -> ClusterStatus:
        """How a cluster stands.

        Args:
            on: ``ray://HOST:PORT``; ``auto``: that of the settings, or of the workspace.

        Raises:
            MissingArtefactError: If nothing was made yet.
            BackendError: If it refuses the token, or the extra ``cluster`` is not installed.
        """
        from molar_retrieval.cluster import local
        from molar_retrieval.cluster.address import Doorkeeper, require_ray
        from molar_retrieval.cluster.runner import nodes_of

        require_ray()
        root = self.shop.opened().root
        known = local.members(root)
        own = tuple(one.name for one in known)
        address = address_of(self.shop, on)
        if address is None:
            return ClusterStatus(None, machines=own)
        found = address.doorkeeper()
        status = ClusterStatus(
            address.url, found is not Doorkeeper.SILENT, found is Doorkeeper.REFUSES,
            sum(len(one.processes) for one in known), own,
        )  # fmt: skip
        if not status.answers:
            return status
        return replace(status, nodes=tuple(ClusterNode(**node) for node in nodes_of(address, _ANSWERS)))

    def down(self) -> bool:
        """Take this machine out of the cluster: its processes end, and no others; False where it had no part in one.

        Raises:
            MissingArtefactError: If nothing was made yet.
        """
        from molar_retrieval.cluster import local

        return local.down(self.shop.opened().root) is not None


def address_of(shop: ShopBase, on: str = AUTO) -> "ClusterAddress | None":
    """The cluster that is named, or else that of the settings, or else that of the workspace; None: there is none."""
    from molar_retrieval.cluster import local
    from molar_retrieval.cluster.address import ClusterAddress
    from molar_retrieval.cluster_settings import ClusterSettings
    from molar_retrieval.settings import validated

    settings, own = shop.settings.cluster, local.address_of(shop.workspace)
    url = settings.address
    if on not in (AUTO, LOCAL, CLUSTER):
        url = validated(ClusterSettings, {"address": on}, "--on").address
    if url is None or (own is not None and own.url == url):
        return own
    return ClusterAddress(url, settings.token_file)


def processes(count: int | None, *, here: bool = False) -> "Runner":
    """So many processes of this machine; None: one per core. With ``here`` this one is among them."""
    from molar_retrieval import bounds
    from molar_retrieval.runner import InProcesses

    return InProcesses(min(bounds.PROCESSES, count or os.cpu_count() or 1), here=here)


def runner_of(shop: ShopBase, on: str, here: "Runner", least: int) -> "Runner":
    """Who does the work of a call.

    Args:
        shop: Whose settings and workspace name a cluster.
        on: ``local``: this machine; ``cluster`` or ``ray://HOST:PORT``: that one; ``auto``: by how much there is to do,
            where there is a cluster of several machines.
        here: What does it on this machine.
        least: Units of work from which a cluster pays.

    Raises:
        MissingArtefactError: If a cluster is asked for, and there is none.
        BackendError: If the extra ``cluster`` is not installed.
        SettingsError: If the address is none.
    """
    address = _used(shop, on)
    if address is None:
        return here
    from molar_retrieval.cluster.runner import BySize, OnCluster

    cluster: Runner = OnCluster(address, shop.settings.cluster.workers)
    if (storage := shop.settings.cluster.storage) is not None:
        from molar_retrieval.cluster.storage import OnStorage

        cluster = OnStorage(cluster, storage)
    return BySize(here, cluster, least) if on == AUTO else cluster


def ranks_of(shop: ShopBase, on: str) -> "Group | None":
    """Who trains the towers of a call, where that may be a cluster; None, and errors, as :func:`runner_of` has them."""
    address, settings = _used(shop, on), shop.settings.cluster
    if address is None or settings.storage is not None:  # ranks read the workspace itself
        return None
    from molar_retrieval.cluster.address import require_ray
    from molar_retrieval.cluster.ranks import RanksOnCluster

    require_ray()
    return RanksOnCluster(address, settings.ranks, MANY_TRAINED if on == AUTO else 0)


def _used(shop: ShopBase, on: str) -> "ClusterAddress | None":
    """The cluster of a call; None: this machine does all of it."""
    if on == LOCAL:
        return None
    from molar_retrieval.cluster import local

    if on == AUTO and not may_be_set(shop.workspace, shop.settings_file) and len(local.members(shop.workspace)) < 2:
        return None
    address = address_of(shop, on)
    if address is None and on != AUTO:
        raise MissingArtefactError(
            "this workspace has no cluster", "run `molar cluster up`, or name one: --on ray://HOST:10001"
        )
    if on == AUTO and shop.settings.cluster.address is None and len(local.members(shop.workspace)) < 2:
        return None  # a cluster of this machine alone
    return address
