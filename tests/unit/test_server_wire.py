"""What goes over the wire: numbers as a server prints them, when an answer comes, what is refused."""

import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from qdrant_client import models
from qdrant_fake import fake_qdrant
from qdrant_limits import LARGEST, MET
from served import CONTAINS, FAKE, URL, WRITTEN

from molar_indexes.server import client as server_client
from molar_indexes.server.client import Connection, ServerError, connect
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.points import ROW_PATH, SERVED, split, understood
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.filters import Contains, Equals, Not

NAME = f"molar-test-{uuid.uuid4().hex}"
HELD_BACK = 0.030
"""Seconds that are surely less than a delayed acknowledgement, and more than an answer of the fake takes."""
ODD = [0.1, 1 / 3, 1e-7, -2.7182817, 16777216.0]


@pytest.fixture(scope="module", params=[FAKE, *([WRITTEN] if URL else [])])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A collection of one point on the fake, which is to do as a real one that is named does; by REST."""
    with ExitStack() as stack:
        url = URL if request.param == WRITTEN and URL else stack.enter_context(fake_qdrant()).url
        opened = connect(ServerConfig(url, timeout=30.0, grpc_port=0))
        dense = models.VectorParams(size=len(ODD), distance=models.Distance.DOT)
        opened.client.create_collection(NAME, {"v": dense}, sparse_vectors_config={"s": models.SparseVectorParams()})
        named = {"v": ODD, "s": models.SparseVector(indices=[7, 3], values=ODD[:2])}
        opened.client.upsert(NAME, [models.PointStruct(id=0, vector=named, payload={"n": 0.1})])
        yield opened
        opened.client.delete_collection(NAME)
        opened.close()


@pytest.mark.alone
def test_an_answer_waits_for_no_acknowledgement(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _median(connection) < HELD_BACK
    if server_client._AT_ONCE is not None and connection.server.url != URL:
        monkeypatch.setattr(server_client, "_AT_ONCE", None)
        assert _median(connection) > HELD_BACK  # so the fake holds back what a server would


def _median(connection: Connection) -> float:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        connection.client.get_collections()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_numbers_are_printed_shortest_and_read_as_what_was_stored(connection: Connection) -> None:
    (record,) = connection.client.retrieve(NAME, [0], with_vectors=True)
    stored = models.Record(id=0, vector={"v": ODD, "s": models.SparseVector(indices=[3, 7], values=[ODD[1], ODD[0]])})
    assert record.vector["v"][:3] == [0.1, 0.33333334, 1e-7]  # type: ignore[index, call-overload]
    assert split(record) == split(stored)
    assert split(record)[0]["v"][0] == 0.10000000149011612


def test_what_a_server_refuses_is_refused(connection: Connection) -> None:
    ask, client = connection.ask, connection.client
    with pytest.raises(ServerError, match="No range index"):
        ask(client.scroll, NAME, order_by=models.OrderBy(key=ROW_PATH))
    part = models.Filter(must=[SERVED.contains("n", "a")])
    if understood(connection.version) is not SERVED:
        with pytest.raises(ServerError, match="Format error"):
            ask(client.count, NAME, part)
    with pytest.raises(ServerError, match="valid point ID"):
        ask(client.upsert, NAME, [models.PointStruct(id="SKU-1", vector={"v": ODD})])
    with pytest.raises(ServerError, match="limit"):
        ask(client.query_points, NAME, query=ODD, using="v", limit=0)
    with pytest.raises(ServerError, match="larger than allowed"):
        ask(client.set_payload, NAME, {"text": "x" * LARGEST}, points=[0])
    with pytest.raises(ServerError):
        ask(client.query_points, NAME, query=ODD[1:], using="v")
    with pytest.raises(ServerError, match=r"not found|doesn't exist"):
        ask(client.count, f"{NAME}-none")
    assert client.count(NAME).count == 1


def test_contains_needs_a_version() -> None:
    older = understood(MET)
    with pytest.raises(RequestError, match=r"needs a Qdrant server of 1\.20; this one is of 1\.19\.0") as refused:
        older.to_filter(Not(Contains("brand", "a")), ())
    assert "local" in refused.value.hint
    assert older.to_filter(Equals("brand", "a"), ()) == SERVED.to_filter(Equals("brand", "a"), ())
    for version in (CONTAINS, "1.21.3", "2.0.0", "", "dev"):
        assert understood(version) is SERVED
