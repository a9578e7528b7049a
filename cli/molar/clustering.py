"""The cluster of a shop: machines that do what one would be long at, and who does the work of one call."""

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase, front_door
from molar.choosing import may_be_set
from molar_retrieval.errors import MissingArtefactError

if TYPE_CHECKING:
    from molar_retrieval.models.towers.distributed import Group
    from molar_retrieval.workspace.jobs import Runner
    from molar_retrieval.workspace.ray_jobs import ClusterAddress, ClusterNode

AUTO, LOCAL, CLUSTER = "auto", "local", "cluster"
MANY_READ = 20_000
"""People whose histories towers read, from whom on it pays: fewer are read here in a minute."""
MANY_SENT = 200_000
"""Points that are sent to a server, from which on it pays: fewer are sent from here in a minute."""
MANY_SCORES = 2_000_000_000
"""Scores of a test, cases by items, from which on it pays to rank them there: fewer take a minute or two here."""
MANY_TRAINED = 1_000_000
"""Interactions that towers are trained on, from which on it pays to have GPUs of a cluster do it."""


@dataclass(frozen=True)
class ClusterStatus:
    """How a cluster stands.

    Attributes:
        url: Where programs reach it; None: there is none.
        answers: Whether anything answers there.
        asks_for_token: Whether who has no token is turned away.
        nodes: What the cluster says of its machines; none where it does not answer.
    """

    url: str | None
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

    def status(self, cluster: str = AUTO) -> ClusterStatus:
        """How a cluster stands.

        Args:
            cluster: ``ray://HOST:PORT``; ``auto``: that of the settings.

        Raises:
            MissingArtefactError: If nothing was made yet.
            BackendError: If it refuses the token, or the extra ``cluster`` is not installed.
        """
        from molar_retrieval.workspace.ray_jobs import ClusterAccess, cluster_nodes, require_ray

        require_ray()
        self.shop.opened()
        address = address_of(self.shop, cluster)
        if address is None:
            return ClusterStatus(None)
        found = address.access()
        if found is ClusterAccess.UNREACHABLE:
            return ClusterStatus(address.url)
        return ClusterStatus(address.url, True, found is ClusterAccess.REFUSED, tuple(cluster_nodes(address)))


def address_of(shop: ShopBase, cluster: str = AUTO) -> "ClusterAddress | None":
    """The cluster that is named, or else that of the settings; None: there is none. Its token is for it alone."""
    from molar_retrieval.workspace.ray_jobs import ClusterAddress
    from molar_retrieval.workspace.settings import ClusterSettings, validated

    settings = shop.settings.cluster
    url = settings.address
    if cluster not in (AUTO, LOCAL, CLUSTER):
        url = validated(ClusterSettings, {"address": cluster}, "--cluster").address
    if url is None:
        return None
    return ClusterAddress(url, settings.token_file if settings.address in (None, url) else None)


def processes(count: int | None) -> "Runner":
    """So many processes of this machine; None: one per core."""
    from molar_retrieval import limits
    from molar_retrieval.workspace.jobs import ProcessRunner

    return ProcessRunner(min(limits.PROCESSES, count or os.cpu_count() or 1))


def runner_of(shop: ShopBase, cluster: str, here: "Runner", least: int) -> "Runner":
    """Who does the work of a call.

    Args:
        shop: Whose settings name a cluster.
        cluster: ``local``: this machine; ``cluster`` or ``ray://HOST:PORT``: that one; ``auto``: by how much there is
            to do, where the settings name a cluster.
        here: What does it on this machine.
        least: Units of work from which a cluster pays.

    Raises:
        MissingArtefactError: If a cluster is asked for, and there is none.
        BackendError: If the extra ``cluster`` is not installed.
        SettingsError: If the address is none.
    """
    address = _used(shop, cluster)
    if address is None:
        return here
    from molar_retrieval.workspace.ray_jobs import RayRunner

    return RayRunner(address, shop.settings.cluster.workers, least=least, here=here if cluster == AUTO else None)


def ranks_of(shop: ShopBase, cluster: str) -> "Group | None":
    """Who trains the towers of a call, where that may be a cluster; None, and errors, as :func:`runner_of` has them."""
    address = _used(shop, cluster)
    if address is None:
        return None
    from molar_retrieval.models.towers.ray_training import RayTrainingGroup
    from molar_retrieval.workspace.ray_jobs import require_ray

    require_ray()
    return RayTrainingGroup(address, shop.settings.cluster.ranks, MANY_TRAINED if cluster == AUTO else 0)


def _used(shop: ShopBase, cluster: str) -> "ClusterAddress | None":
    """The cluster of a call; None: this machine does all of it."""
    if cluster == LOCAL or (cluster == AUTO and not may_be_set(shop.workspace, shop.settings_file)):
        return None
    address = address_of(shop, cluster)
    if address is None and cluster != AUTO:
        raise MissingArtefactError(
            "no cluster is named", "name one: --cluster ray://HOST:10001, or MOLAR_CLUSTER_ADDRESS in the environment"
        )
    return address
