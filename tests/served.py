"""Indexes on a Qdrant server for tests: the fake one, or one that the environment names."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from qdrant_client import models
from qdrant_fake import fake_qdrant
from qdrant_grpc_fake import fake_both

from molar_indexes.records import batches
from molar_indexes.server.client import Connection, connect
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.points import Layout, items_between, payload_indexes, to_point
from molar_indexes.server.push import build_graphs, upload
from molar_retrieval.progress import SILENT
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, StoredItem

URL = os.environ.get("MOLAR_TEST_QDRANT_URL")
FAKE, SPOKEN, REAL, WRITTEN = "server, fake", "server, fake, gRPC", "server", "server, REST"
CONTAINS = "1.20.0"
"""The first version with all conditions, which the fake has here."""
SERVERS = [FAKE, SPOKEN, *([REAL, WRITTEN] if URL else [])]
"""A real one is asked by gRPC where it answers, and by REST."""


def patient(url: str, **more: Any) -> ServerConfig:
    """A server as settings name it, with time enough for each request where cores are busy."""
    return ServerConfig(url, **{"timeout": 30.0, **more})


class Shelf:
    """Collections that are removed in the end."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.client = connection, connection.client
        self.made: list[str] = []

    def index(self, spec: IndexSpec, items: Iterable[IndexItem], layout: Layout | None = None) -> ServerIndex:
        """An index of items, checked and uploaded as a push does it."""
        name, layout = f"molar-test-{uuid.uuid4().hex}", layout or Layout()
        clean = [item for batch in batches(spec, items) for item in batch]
        stored = [StoredItem(i.row, i.item_id, i.payload, i.vectors, i.sparse) for i in clean]
        self.client.create_collection(name, **layout.collection(spec, {}))
        self.made.append(name)
        for path, kind in payload_indexes(spec).items():
            self.client.create_payload_index(name, path, field_schema=kind)

        def read(first: int, last: int) -> list[models.PointStruct]:
            return [to_point(spec, item) for item in stored[first:last]]

        count = len(stored)
        upload(
            self.connection, name, range(count), read, items_between, resumed=False, at_once=1, progress=SILENT,
            task="items",
        )  # fmt: skip
        build_graphs(self.connection, name, spec, SILENT)
        return _Kept(self.connection, name, spec, count, layout)


class _Kept(ServerIndex):
    def close(self) -> None:
        """The shelf closes the client."""


@contextmanager
def shelf(kind: str) -> Iterator[Shelf]:
    """Collections on a kind of server."""
    with ExitStack() as stack:
        stand_in = {FAKE: fake_qdrant, SPOKEN: fake_both}.get(kind)
        url = URL if stand_in is None and URL else stack.enter_context((stand_in or fake_qdrant)(CONTAINS)).url
        connection = connect(patient(url, grpc_port=0 if kind == WRITTEN else None))
        opened = Shelf(connection)
        yield opened
        for name in opened.made:
            connection.client.delete_collection(name)
        connection.close()
