"""How a server is asked: so many requests a query, ids and scores alone, by gRPC where it answers and else by REST."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from qdrant_grpc_fake import fake_both, start
from served import patient

from molar_indexes.recommender import Recommender
from molar_indexes.server import client
from molar_indexes.server.client import GREETING, ServerError, connect
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import open_served
from molar_indexes.server.push import push
from molar_retrieval.ranking import candidates
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

pytestmark = pytest.mark.slow
PLAIN: dict[str, Any] = {"rules": False, "explore": False}


@pytest.fixture(autouse=True)
def searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small catalogues are scanned from the item store; here the index is asked."""
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)


@pytest.fixture(scope="module", params=["REST", "gRPC"])
def fake(request: pytest.FixtureRequest, trained: Any) -> Iterator[FakeQdrant]:
    with (fake_qdrant if request.param == "REST" else fake_both)() as server:
        push(Workspace.open(trained.workspace), IndexSettings(url=server.url))
        yield server


@pytest.fixture
def served(trained: Any, fake: FakeQdrant) -> Iterator[Recommender]:
    workspace = Workspace.open(trained.workspace)
    with Recommender(workspace, open_served(workspace, patient(fake.url))) as opened:
        yield opened


def test_a_query_is_a_request_for_lists_and_one_for_what_is_told(
    trained: Any, fake: FakeQdrant, served: Recommender
) -> None:
    """The lists of known and of new items come together, and under a condition that of partners with them."""
    with Recommender.open(trained.workspace) as own:
        for options in ({}, {"where": "price < 500"}):
            for warm in (True, False):  # the first query finds out how few new items there are
                fake.asked.clear()
                began = fake.answered
                answer = served.query(trained.user, k=5, **PLAIN, **options)
                assert [i.item_id for i in answer.items] == [
                    i.item_id for i in own.query(trained.user, k=5, **PLAIN, **options).items
                ]
                if not warm and not options:
                    assert [_kind(one) for one in fake.asked] == ["lists"]  # what is told is remembered
                elif not options:
                    assert [_kind(one) for one in fake.asked][-1] == "told"
                assert all(_searches(one) > 1 for one in fake.asked[:1])
                assert fake.answered - began < 60_000
        fake.asked.clear()
        served.query("u0007", k=5, **PLAIN)
        assert [_kind(one) for one in fake.asked] in (["lists", "told"], ["lists"])


def _kind(asked: Any) -> str:
    told = {"QueryBatch": "lists", "batch": "lists", "Get": "told", "points": "told"}
    return told[asked.path.rsplit("/", 1)[-1]]


def _searches(asked: Any) -> int:
    if asked.method == "GRPC":
        assert not any(one.with_payload.enable or one.with_vectors.enable for one in asked.body.query_points)
        return len(asked.body.query_points)
    assert not any(one["with_payload"] or one["with_vector"] for one in asked.body["searches"])
    return len(asked.body["searches"])


def test_grpc_is_spoken_where_it_answers_and_else_rest_which_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_both() as both, fake_qdrant() as rest:
        port = int(both.url.rsplit(":", 1)[1]) + 1
        both.key = "k-not-for-strangers"
        monkeypatch.setenv("QDRANT_API_KEY", both.key)
        connection = connect(patient(both.url, timeout=GREETING))  # the greeting is by the client that stays
        assert str(connection.spoken) == f"gRPC, port {port}"
        connection.ask(connection.client.get_collections)
        asked = [(one.path, one.key is not None) for one in both.asked]
        assert asked == [
            ("HealthCheck", False),
            ("HealthCheck", True),
            ("List", True),
        ]  # no key before it said its name
        connection.close()
        connection = connect(patient(both.url, grpc_port=0))
        assert str(connection.spoken) == "REST: [index] grpc_port is 0"
        connection.close()
        connection = connect(patient(rest.url))
        assert str(connection.spoken).startswith("REST: by gRPC, which is faster, Qdrant does not answer at port")
        connection.close()


def test_where_the_port_for_grpc_dies_the_next_connection_speaks_rest() -> None:
    with fake_both() as fake:
        connection = connect(patient(fake.url))
        fake.grpc.stop(None).wait()
        with pytest.raises(ServerError, match="by gRPC at"):
            connection.ask(connection.client.get_collections)
        connection.close()
        connection = connect(patient(fake.url))
        assert connection.spoken.missed
        assert connection.ask(connection.client.get_collections).collections == []
        connection.close()


def test_a_server_that_comes_back_answers_soon() -> None:
    with fake_both() as fake:
        connection = connect(patient(fake.url))
        fake.grpc.stop(None).wait()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            with pytest.raises(ServerError):
                connection.ask(connection.client.get_collections)
            time.sleep(0.1)
        start(fake)
        connection.insist(lambda _: None, connection.client.get_collections)
        assert time.monotonic() - until < 10
        connection.close()


@pytest.mark.alone
def test_a_port_that_hangs_costs_half_a_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_both() as fake:
        monkeypatch.setattr(client, "PATIENCE", 1.0)
        fake.faults = [Fault("GRPC HealthCheck", times=9, delay=1.5)]
        for most in (3.0, 0.9):
            began = time.monotonic()
            connection = connect(ServerConfig(fake.url))
            assert connection.spoken.grpc_port is None
            connection.close()
            assert time.monotonic() - began < most
