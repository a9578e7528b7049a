"""A Ray cluster: whether it answers, whom it lets in, and whether what is needed to use it is here."""

import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from molar.doctor.health import Entry, Fault, HealthState, broken, entry
from molar_retrieval.errors import BackendError, MolarError
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.ray_jobs import ClusterAccess, ClusterAddress
from molar_retrieval.workspace.settings import FILE_NAME, MolarSettings


def cluster(root: Path, file: Path | None = None) -> Iterator[Entry]:
    """Look at the cluster that the settings name; nothing where they name none."""
    try:
        settings = MolarSettings.load(root.parent, name=file_beside(root, FILE_NAME).name, file=file).cluster
    except MolarError:
        return  # said by the section on places
    if settings.address is None:
        return
    found = ClusterAddress(settings.address, settings.token_file)
    if find_spec("ray") is None:
        yield entry("ray", "missing", broken("a cluster needs Ray", "`pip install 'molar-retrieval[cluster]'`"))
    yield _answer(found)
    if found.token is not None and found.token.exists():
        shared = stat.S_IMODE(found.token.stat().st_mode) & 0o077
        problem = f"the token of the cluster can be read by others: {found.token}"
        yield entry("token", str(found.token), Fault(problem, f"chmod 600 {found.token}") if shared else None)


def _answer(found: ClusterAddress) -> Entry:
    """Knock without a token, then with it."""
    knocked = found.access()
    problem = f"the cluster at {found.url} asks for no token: whoever reaches its ports can run any program on it"
    if knocked is ClusterAccess.OPEN:
        return entry(
            "address", found.url, Fault(problem, "start it with RAY_AUTH_MODE=token, on a network of your own")
        )
    try:
        found.require()
    except BackendError as error:
        state = HealthState.WARNING if knocked is ClusterAccess.UNREACHABLE else HealthState.BROKEN
        return entry("address", found.url, Fault(error.message, error.hint, state))
    return entry("address", f"{found.url}, asks for a token")
