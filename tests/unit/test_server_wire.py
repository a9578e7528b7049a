"""What goes over the wire: numbers as a server prints them, when an answer comes, what is refused."""

import statistics
import time
from collections.abc import Iterator

import pytest
from qdrant_client import models
from qdrant_fake import FakeQdrant, fake_qdrant
from qdrant_limits import LARGEST
from served import CONTAINS

from molar_indexes.server import transport
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import Connection, connect
from molar_indexes.server.faults import ServerError
from molar_indexes.server.filters import ROW_PATH, SERVED, understood
from molar_indexes.server.points import split
from molar_retrieval.errors import RequestError
from molar_retrieval.expressions import Contains, Equals, Not

HELD_BACK = 0.030
"""Seconds that are surely less than a delayed acknowledgement, and more than an answer of the fake takes."""
ODD = [0.1, 1 / 3, 1e-7, -2.7182817, 16777216.0]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        yield server


@pytest.fixture(scope="module")
def connection(fake: FakeQdrant) -> Iterator[Connection]:
    opened = connect(ServerConfig(fake.url, timeout=10.0))
    dense = models.VectorParams(size=len(ODD), distance=models.Distance.DOT)
    opened.client.create_collection("odd", {"v": dense}, sparse_vectors_config={"s": models.SparseVectorParams()})
    named = {"v": ODD, "s": models.SparseVector(indices=[7, 3], values=ODD[:2])}
    opened.client.upsert("odd", [models.PointStruct(id=0, vector=named, payload={"n": 0.1})])
    yield opened
    opened.close()


def test_an_answer_waits_for_no_acknowledgement(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _median(connection) < HELD_BACK
    if transport._AT_ONCE is not None:
        monkeypatch.setattr(transport, "_AT_ONCE", None)
        assert _median(connection) > HELD_BACK  # so the fake holds back what a server would


def _median(connection: Connection) -> float:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        connection.client.get_collections()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_numbers_are_printed_shortest_and_read_as_what_was_stored(connection: Connection) -> None:
    (record,) = connection.client.retrieve("odd", [0], with_vectors=True)
    stored = models.Record(id=0, vector={"v": ODD, "s": models.SparseVector(indices=[3, 7], values=[ODD[1], ODD[0]])})
    assert record.vector["v"][:3] == [0.1, 0.33333334, 1e-7]  # type: ignore[index, call-overload]
    assert split(record) == split(stored)
    assert split(record)[0]["v"][0] == 0.10000000149011612


def test_what_a_server_refuses_is_refused(fake: FakeQdrant, connection: Connection) -> None:
    ask, client = connection.ask, connection.client
    with pytest.raises(ServerError, match="No range index"):
        ask(client.scroll, "odd", order_by=models.OrderBy(key=ROW_PATH))
    part = models.Filter(must=[SERVED.contains("n", "a")])
    with pytest.raises(ServerError, match="Format error"):
        ask(client.count, "odd", part)
    with pytest.raises(ServerError, match="valid point ID"):
        ask(client.upsert, "odd", [models.PointStruct(id="SKU-1", vector={"v": ODD})])
    with pytest.raises(ServerError, match="limit"):
        ask(client.query_points, "odd", query=ODD, using="v", limit=0)
    with pytest.raises(ServerError, match="larger than allowed"):
        ask(client.set_payload, "odd", {"text": "x" * LARGEST}, points=[0])
    with pytest.raises(ServerError):
        ask(client.query_points, "odd", query=ODD[1:], using="v")
    with pytest.raises(ServerError, match="not found"):
        ask(client.count, "nobody's")
    assert fake.client.count("odd").count == 1


def test_contains_needs_a_version(connection: Connection) -> None:
    older = understood(connection.version)
    with pytest.raises(RequestError, match=r"needs a Qdrant server of 1\.20; this one is of 1\.19\.0") as refused:
        older.to_filter(Not(Contains("brand", "a")), ())
    assert "local" in refused.value.hint
    assert older.to_filter(Equals("brand", "a"), ()) == SERVED.to_filter(Equals("brand", "a"), ())
    for version in (CONTAINS, "1.21.3", "2.0.0", "", "dev"):
        assert understood(version) is SERVED
