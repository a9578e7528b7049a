"""`molar serve`: what is checked before it listens, and the server itself."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from molar.choosing import settings_of
from molar.shop import Shop
from molar_retrieval.errors import SettingsError
from molar_retrieval.native import keep_freed_memory, limit_spinning
from molar_serving.access import Keyring
from molar_serving.app import application
from molar_serving.connections import BoundedProtocol, most_connections
from molar_serving.logs import log_to_stderr
from molar_serving.origins import is_loopback
from molar_serving.service import Service


def serve(shop: Shop, listening: Callable[[str], None], *, host: str | None = None, port: int | None = None) -> None:
    """Answer until the process is told to end; ``listening`` is told the address.

    Args:
        shop: The shop; it may have no generation yet.
        listening: Called once it listens.
        host: Address to listen on; None: as the settings say.
        port: The port; None: as the settings say.

    Raises:
        SettingsError: If it would listen to others without keys, or half of a certificate is named.
        MissingArtefactError: If there is no workspace.
    """
    settings = settings_of(shop.workspace, shop.settings_file, serve={"host": host, "port": port}).serve
    keys = Keyring(shop.opened().root).keys()
    if not keys and not is_loopback(settings.host):
        raise SettingsError(
            f"{settings.host} is open to other machines, and there are no keys",
            "make one: `molar keys add NAME`, or listen on 127.0.0.1",
        )
    if (settings.certificate is None) != (settings.private_key is None):
        raise SettingsError("one of certificate and private_key is named alone", "name both in [serve], or none")
    prepare()
    log_to_stderr()
    config = uvicorn.Config(
        application(Service(shop)),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        log_level="error",  # what clients send is no fault of the server
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain),
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
    )
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    sock.listen(config.backlog)  # who is told the address may ask at once
    name, port = sock.getsockname()[:2]
    scheme = "http" if settings.certificate is None else "https"
    listening(f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}")
    with suppress(KeyboardInterrupt):  # raised again by uvicorn once it has ended in order
        server.run(sockets=[sock])


def prepare() -> None:
    """What a process does before it computes anything: small products need no second thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.setswitchinterval(0.001)  # what comes in need not wait 5 ms for the threads that compute
    limit_spinning()
    keep_freed_memory()
    most_connections()
