"""A connection to a Qdrant server. This is where qdrant-client is imported."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from math import ceil

from qdrant_client import QdrantClient

from molar_indexes.server.config import ServerConfig, go_together, key
from molar_indexes.server.faults import ServerError, asking
from molar_indexes.server.transport import DeadlineTransport

GREETING = 5.0
"""Seconds in which a server says who it is, however long it may take for the rest."""


def connect(server: ServerConfig) -> QdrantClient:
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
            raise ServerError(
                f"{server.name} has version {version}, qdrant-client {mine}: more than one minor version apart",
                "update the older of the two",
            )
    except BaseException:
        greeting.close()
        raise
    if greeted == server:
        return greeting
    greeting.close()
    return client_of(server)


@contextmanager
def connected(server: ServerConfig) -> Iterator[QdrantClient]:
    """A connection that is closed in the end; see :func:`connect`."""
    client = connect(server)
    try:
        yield client
    finally:
        client.close()


def client_of(server: ServerConfig) -> QdrantClient:
    """A client that has not asked anything yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key over http, which `molar doctor` says
        return QdrantClient(
            url=server.url,
            api_key=key(),
            prefer_grpc=server.grpc_port is not None,
            grpc_port=server.grpc_port or 6334,
            timeout=ceil(server.timeout),
            check_compatibility=False,
            transport=DeadlineTransport(server.url, server.timeout),
        )
