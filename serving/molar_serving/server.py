"""One process that answers on a socket, until it is told to end."""

import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from starlette.routing import Route

from molar.shop import Shop
from molar_serving.app import application
from molar_serving.connections import BoundedProtocol
from molar_serving.service import Service

if TYPE_CHECKING:
    from molar_retrieval.workspace.settings import MolarSettings

CLOSING = 5.0
"""Seconds that a process has to close its files after the answers under way had theirs."""


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
