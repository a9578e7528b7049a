"""Servers for tests: two in this process, with and without a socket, and `molar serve` as a program."""

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.testclient import TestClient

from molar.shop import Shop
from molar_serving.app import application
from molar_serving.service import Service

_READY = 60.0
_DEADLINE = 60.0
"""Seconds for a list where settings do not say it: what is late is another list, and cores may be busy."""


def service_of(workspace: Path, settings: Path | None = None) -> Service:
    """A service that takes the time that an answer needs, where its settings do not say how long."""
    shop = Shop(None, workspace, settings)
    serve = shop.settings.serve
    if "deadline" not in serve.model_fields_set:
        serve = serve.model_copy(update={"deadline": _DEADLINE})
    return Service(shop, shop.settings.model_copy(update={"serve": serve}))


@contextmanager
def client_of(workspace: Path, settings: Path | None = None) -> Iterator[TestClient]:
    """A client of a server in this process, once it answers."""
    app = application(service_of(workspace, settings))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        until_ready(client)
        yield client


@contextmanager
def address_of(workspace: Path, settings: Path | None = None, certificate: Path | None = None) -> Iterator[str]:
    """The address of a server in a thread of this process, once it answers: for clients that open sockets.

    ``certificate`` is the file of one with its key, for https.
    """
    app = application(service_of(workspace, settings))
    options = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, port=0, ssl_certfile=certificate, **options))
    sock = server.config.bind_socket()
    sock.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        address = f"{'http' if certificate is None else 'https'}://127.0.0.1:{sock.getsockname()[1]}"
        trusted = True if certificate is None else ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=address, timeout=30, verify=trusted) as client:
            until_ready(client)
        yield address
    finally:
        server.should_exit = True
        thread.join()


def until_ready(client: httpx.Client) -> None:
    """Wait until it answers."""
    end = time.monotonic() + _READY
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < end, "it never got ready"
        time.sleep(0.02)


class Program:
    """`molar serve` in a process of its own, begun by another command where ``by`` names one.

    It takes the time that an answer needs, where neither settings nor the environment say how long.
    """

    def __init__(self, workspace: Path, *options: str, by: Sequence[str] = (), **environment: str) -> None:
        command = [*by, sys.executable, "-c", "from molar_cli.app import main; main()", "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(workspace), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_patience(workspace, options), **environment},
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().partition(",")[0]
        if not self.address.startswith("http"):
            raise AssertionError(f"it does not listen: {self.process.communicate(timeout=30)}")

    def client(self, **more: object) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.address, timeout=30, **more)

    def end(self, how: int = signal.SIGTERM, seconds: float = 30) -> int:
        """End it by a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()


def _patience(workspace: Path, options: Sequence[str]) -> dict[str, str]:
    named = "--settings" in options
    file = Path(options[options.index("--settings") + 1]) if named else workspace.parent / "molar.toml"
    told = file.exists() and "deadline" in file.read_text("utf-8")
    return {} if told else {"MOLAR_SERVE_DEADLINE": str(_DEADLINE)}


@contextmanager
def program(workspace: Path, *options: str, by: Sequence[str] = (), **environment: str) -> Iterator[Program]:
    """`molar serve` as a program, once it answers; it ends with the context."""
    found = Program(workspace, *options, by=by, **environment)
    try:
        with found.client() as client:
            until_ready(client)
        yield found
    finally:
        found.end()
