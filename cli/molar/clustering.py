"""The Ray cluster of a shop, and who does the work of one call."""

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase, front_door
from molar_retrieval import limits
from molar_retrieval.errors import MissingArtefactError

if TYPE_CHECKING:
    from molar_retrieval.models.towers.distributed import Group
    from molar_retrieval.workspace.jobs import Runner
    from molar_retrieval.workspace.ray_jobs import ClusterAddress, ClusterNode

CLUSTER = "cluster"
"""What the cluster of the settings is called."""


@dataclass(frozen=True)
class ClusterStatus:
    """How a cluster stands.

    Attributes:
        url: Where programs reach it.
        answers: Whether anything answers there.
        asks_for_token: Whether who has no token is turned away.
        nodes: What the cluster says of its machines; none where it does not answer.
    """

    url: str
    answers: bool = False
    asks_for_token: bool = False
    nodes: "tuple[ClusterNode, ...]" = ()

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON-able values."""
        return asdict(self)


@front_door
@dataclass(frozen=True)
class Cluster:
    """The machines that do what one would be long at, by Ray."""

    shop: ShopBase

    def status(self, cluster: str = CLUSTER) -> ClusterStatus:
        """How a cluster stands.

        Args:
            cluster: ``ray://HOST:PORT``; ``cluster``: that of the settings.

        Raises:
            MissingArtefactError: If nothing was made yet, or no cluster is named.
            BackendError: If it refuses the token, or the extra ``cluster`` is not installed.
        """
        from molar_retrieval.workspace.ray_jobs import ClusterAccess, cluster_nodes, require_ray

        require_ray()
        self.shop.opened()
        address = address_of(self.shop, cluster)
        found = address.access()
        if found is ClusterAccess.UNREACHABLE:
            return ClusterStatus(address.url)
        return ClusterStatus(address.url, True, found is ClusterAccess.REFUSED, tuple(cluster_nodes(address)))


def address_of(shop: ShopBase, cluster: str) -> "ClusterAddress":
    """The cluster that is named, or else that of the settings; its token is for it alone.

    Raises:
        MissingArtefactError: If the settings are to name it, and name none.
        SettingsError: If the address is none.
    """
    from molar_retrieval.workspace.ray_jobs import ClusterAddress
    from molar_retrieval.workspace.settings import ClusterSettings, validated

    settings = shop.settings.cluster
    url = settings.address
    if cluster != CLUSTER:
        url = validated(ClusterSettings, {"address": cluster}, "--cluster").address
    if url is None:
        raise MissingArtefactError(
            "no cluster is named", "name one: --cluster ray://HOST:10001, or MOLAR_CLUSTER_ADDRESS in the environment"
        )
    return ClusterAddress(url, settings.token_file if settings.address in (None, url) else None)


def processes(count: int | None) -> "Runner":
    """So many processes of this machine; None: one per core."""
    from molar_retrieval.workspace.jobs import ProcessRunner

    return ProcessRunner(min(limits.PROCESSES, count or os.cpu_count() or 1))


def runner_of(shop: ShopBase, cluster: str | None, here: "Runner") -> "Runner":
    """Who does the work of a call: the cluster that is named, else ``here``."""
    if cluster is None:
        return here
    from molar_retrieval.workspace.ray_jobs import RayRunner

    return RayRunner(address_of(shop, cluster), shop.settings.cluster.workers)


def ranks_of(shop: ShopBase, cluster: str | None) -> "Group | None":
    """Who trains the towers of a call, where that may be the cluster that is named; else None."""
    if cluster is None:
        return None
    from molar_retrieval.models.towers.ray_training import RayTrainingGroup
    from molar_retrieval.workspace.ray_jobs import require_ray

    require_ray()
    return RayTrainingGroup(address_of(shop, cluster), shop.settings.cluster.ranks)
