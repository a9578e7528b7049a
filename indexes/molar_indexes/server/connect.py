"""A connection to a Qdrant server. This is where qdrant-client is imported."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import ParamSpec, TypeVar, cast

from molar_indexes.server.client import Client, Spoken
from molar_indexes.server.config import ServerConfig, apart, go_together
from molar_indexes.server.faults import ServerError, asking, persistently
from molar_indexes.server.nodes import FirstThatAnswers

P = ParamSpec("P")
T = TypeVar("T")
GREETING = 5.0
"""Seconds in which a server says who it is, however long it may take for the rest."""


@dataclass(frozen=True)
class Connection:
    """A client, and the server that it asks, of a version; what fails is said in words, as :class:`ServerError`."""

    client: Client
    server: ServerConfig
    version: str = ""  # as it says it is; empty: nobody asked

    def ask(self, request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The answer to one request, a method of the client."""
        with asking(self.server):
            return request(*arguments, **named)

    def insist(self, tell: Callable[[str], None], request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The same of a request that may be sent again, see :func:`molar_indexes.server.faults.persistently`."""
        return persistently(self.server, partial(request, *arguments, **named), tell)

    @property
    def spoken(self) -> Spoken:
        """By which protocol it is asked, and why not by gRPC."""
        return self.client.spoken()

    def close(self) -> None:
        """Close the client."""
        self.client.close()


def connect(server: ServerConfig) -> Connection:
    """Connect to a server and make sure that it can be understood.

    Raises:
        ServerError: If it does not answer, refuses the key, or is of a version too far from the client's.
    """
    greeted = replace(server, timeout=min(server.timeout, GREETING))
    greeting = client_of(greeted)
    try:
        with asking(greeted):
            version = greeting.info().version
        mine = metadata.version("qdrant-client")
        if not go_together(mine, version):
            raise ServerError(f"{server.name}: {apart(mine, version)}", "update the older of the two")
    except BaseException:
        greeting.close()
        raise
    if greeted == server:
        return Connection(greeting, server, version)
    greeting.close()
    return Connection(client_of(server), server, version)


@contextmanager
def connected(server: ServerConfig) -> Iterator[Connection]:
    """A connection that is closed in the end; see :func:`connect`."""
    connection = connect(server)
    try:
        yield connection
    finally:
        connection.close()


def client_of(server: ServerConfig) -> Client:
    """A client that has not asked anything yet; with several addresses, what stands for one."""
    if len(server.nodes) > 1:
        return cast(Client, FirstThatAnswers(server, _client_of_one))
    return _client_of_one(server)


def _client_of_one(server: ServerConfig) -> Client:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key over http, which `molar doctor` says
        return Client.of(server)
