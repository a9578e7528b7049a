"""`molar serve`: what is checked before it listens, and the processes that answer."""

import os
import signal
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from molar.choosing import settings_of
from molar.shop import Shop
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import ServeSettings
from molar_retrieval.workspace.threads import keep_freed_memory, limit_spinning
from molar_serving.access import Keyring
from molar_serving.connections import most_connections
from molar_serving.logs import log_warnings
from molar_serving.metrics import forget_process, shared_folder
from molar_serving.origins import is_loopback
from molar_serving.server import CLOSING, answer
from molar_serving.supervisor import Supervisor

if TYPE_CHECKING:
    from molar_retrieval.workspace.settings import MolarSettings

_BACKLOG = 2048  # connections that wait to be accepted


def serve(
    shop: Shop,
    listening: Callable[[str], None],
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
) -> None:
    """Answer until the process is told to end; ``listening`` is told the address.

    SIGTERM or Ctrl-C end it in order: answers under way have the setting ``drain`` to come to their end. A second one
    ends it at once, with exit code 143 or 130.

    Args:
        shop: The shop; it may have no generation yet.
        listening: Called once it listens.
        host: Address to listen on; None: as the settings say.
        port: The port; None: as the settings say.
        workers: Processes that answer; None: as the settings say.

    Raises:
        SettingsError: If it would listen to others without keys, or cannot listen there, or the certificate is wrong.
        MissingArtefactError: If there is no workspace.
    """
    said = {"host": host, "port": port, "workers": workers}
    settings = settings_of(shop.workspace, shop.settings_file, serve=said)
    wanted = settings.serve
    keys = Keyring(shop.opened().root).keys()
    if not keys and not is_loopback(wanted.host):
        raise SettingsError(
            f"{wanted.host} is open to other machines, and there are no keys",
            "make one: `molar keys add NAME`, or listen on 127.0.0.1",
        )
    _check_certificate(wanted)
    prepare()
    log_warnings(shop.workspace)
    with bound(wanted.host, wanted.port) as sock:
        name, at = sock.getsockname()[:2]
        scheme = "http" if wanted.certificate is None else "https"
        address = f"{scheme}://{f'[{name}]' if ':' in name else name}:{at}"
        if wanted.workers == 1:
            listening(address)
            answer(shop, settings, sock, (signal.SIGTERM, signal.SIGINT))
            return
        arguments, ending = (shop.workspace, shop.settings_file, settings), wanted.shutdown_timeout + CLOSING + 1
        with shared_folder() as folder:
            died = partial(forget_process, folder)
            supervisor = Supervisor(wanted.workers, _work, arguments, sock, ending, died)
            listening(address)
            supervisor.run()


def _work(workspace: Path, settings_file: Path | None, settings: "MolarSettings", sock: socket.socket) -> None:
    """One of several processes that answer."""
    prepare()
    log_warnings(workspace)
    answer(Shop(None, workspace, settings_file), settings, sock, (signal.SIGTERM,))


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; a SettingsError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"{host}, port {port}, cannot be listened on: {error.strerror or error}",
            "name another one with --host and --port; --port 0 takes any that is free",
        ) from error


def _check_certificate(wanted: ServeSettings) -> None:
    if (wanted.certificate is None) != (wanted.private_key is None):
        raise SettingsError("one of certificate and private_key is named alone", "name both in [serve], or none")
    if wanted.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            wanted.certificate,
            wanted.private_key,
            password="",  # of an encrypted key: it is not asked for at a terminal
        )
    except OSError as error:  # what is wrong with its content is one, too
        raise SettingsError(
            f"the certificate {wanted.certificate} with its key cannot be used: {error}",
            "name a certificate in PEM and its key, in [serve]",
        ) from error


def prepare() -> None:
    """What a process does before it computes anything: small products need no second thread."""
    if "OPENBLAS_NUM_THREADS" not in os.environ and "OMP_NUM_THREADS" not in os.environ:
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for what is loaded later
        threadpool_limits(1)
    limit_spinning()
    keep_freed_memory()
    most_connections()
