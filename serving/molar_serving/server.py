"""`molar serve`: what is checked before it listens, and the processes that answer."""

import logging
import math
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from molar.choosing import settings_of
from molar.shop import Shop
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.jobs import IsolatedProcess, begin_watching, packed
from molar_retrieval.workspace.settings import ServeSettings
from molar_retrieval.workspace.threads import keep_freed_memory, limit_spinning
from molar_serving.app import application
from molar_serving.auth import Keyring, is_loopback
from molar_serving.connections import BoundedProtocol, most_connections
from molar_serving.observability import forget_process, log_warnings, shared_folder
from molar_serving.service import Service

if TYPE_CHECKING:
    from molar_retrieval.workspace.settings import MolarSettings

_AGAIN = 1.0  # seconds between a worker that died as soon as it was started, and the next one
_log = logging.getLogger("molar.serving")
CLOSING = 5.0
"""Seconds that a process has to close its files after the answers under way had theirs."""
_BACKLOG = 2048  # connections that wait to be accepted


class Supervisor:
    """Starts workers, replaces those that die, and ends them in order at SIGTERM or Ctrl-C; at the second one at once.

    A worker ends with its parent, from before it imports anything of weight; at SIGTERM it must end in order by itself.

    Args:
        count: How many.
        work: What each of them runs, with ``arguments`` and the socket; it is imported there.
        arguments: What else can be pickled.
        listening: The socket on which they answer; it is closed here as soon as they are told to end.
        ending: Seconds that they have for that.
        died: Called with the process id of each that died.
    """

    def __init__(
        self,
        count: int,
        work: Callable[..., None],
        arguments: tuple[Any, ...],
        listening: socket.socket,
        ending: float,
        died: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._work, self._listening, self._ending = packed(work, *arguments), listening, ending
        self._count, self._died = count, died
        self._running: dict[IsolatedProcess, float] = {}
        self._over = False
        self._woken, self._wake = socket.socketpair()

    def run(self) -> None:
        """Keep them running."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._over:
                while len(self._running) < self._count:
                    self._start()
                wait([self._woken, *(process.sentinel for process in self._running)])
                self._replace()
            self._listening.close()
            for process in self._running:
                process.terminate()
            self._join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        process = IsolatedProcess(target=begin_watching, args=(self._work, True, self._listening))
        process.start()
        self._running[process] = time.monotonic()

    def _replace(self) -> None:
        for process, began in list(self._running.items()):
            if process.is_alive() or self._over:
                continue
            del self._running[process]
            self._died(process.pid or 0)
            _log.warning("worker %d died (%s) and is replaced", process.pid, process.exitcode)
            if time.monotonic() - began < _AGAIN:
                wait([self._woken], _AGAIN)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            for process in self._running:
                process.kill()
            os._exit(128 + number)
        self._over = True
        self._wake.send(b"!")

    def _join(self) -> None:
        end = time.monotonic() + self._ending
        for process in self._running:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


class DrainingServer(uvicorn.Server):
    """Ends in order at the first of some signals, at once at the second.

    In order is: nothing more is accepted, what is under way is answered as long as ``drain`` lasts, files are closed.
    Events that were acknowledged are on the disk, whenever it ends.
    """

    def __init__(self, config: uvicorn.Config, signals: Sequence[signal.Signals], drain: float) -> None:
        super().__init__(config)
        self._signals, self._drain = signals, drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Heed the signals while the context lasts."""
        before = {number: signal.signal(number, self.handle_exit) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        late = threading.Timer(self._drain + CLOSING, os._exit, [1])
        late.daemon = True
        late.start()


def answer(
    shop: Shop,
    settings: "MolarSettings",
    listening: socket.socket,
    signals: Sequence[signal.Signals],
    pages: Sequence[Route] = (),
) -> None:
    """Answer what comes to a socket, until one of the signals comes; ``pages`` beside the endpoints."""
    serve = settings.serve
    config = uvicorn.Config(
        application(Service(shop, settings), pages),
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        log_level="error",  # what clients send is no fault of the server
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(serve.shutdown_timeout),
        ssl_certfile=serve.certificate,
        ssl_keyfile=serve.private_key,
    )
    DrainingServer(config, signals, serve.shutdown_timeout).run(sockets=[listening])


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
