"""A cluster with several addresses: where a node is dead or hangs, the next one is asked, within the same time."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_cluster import Node, address_of, fake_cluster, spread
from qdrant_fake import Fault
from qdrant_grpc_fake import fake_both
from test_indexes_generations import N, release, released
from test_server_push import asked, place, send

import molar
from molar.doctor.health import Entry, HealthState
from molar.doctor.server import served as examined
from molar_indexes.generations import open_generation
from molar_indexes.server import client as server_client
from molar_indexes.server import push
from molar_indexes.server import push as server_push
from molar_indexes.server.client import Connection, connect, connected
from molar_indexes.server.collections import target
from molar_indexes.server.config import KEY, ServerConfig
from molar_indexes.server.opening import open_served
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

pytestmark = pytest.mark.slow

QUERY = [1.0, 0.0, 0.0, 0.0]
POINTS = "^PUT .*/points$"
WRITES = "^(PUT|PATCH|DELETE) |POST /collections/aliases"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return released(tmp_path)


@pytest.fixture
def cluster() -> Iterator[list[Node]]:
    with fake_cluster(3) as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_push, "BLOCK", 8)
    monkeypatch.setattr(push, "POLL", 0.01)
    monkeypatch.setattr(server_client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(server_client, "PATIENCE", 1.0)
    monkeypatch.setattr(server_client, "_KNOWN", {})
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def at(cluster: list[Node]) -> Any:
    """What the helpers for one server take for one."""
    return SimpleNamespace(url=address_of(cluster))


def live(cluster: list[Node]) -> str | None:
    return target(Connection(cluster[0].fake.client, place(at(cluster))), "molar")


def counts(cluster: list[Node]) -> list[int]:
    return [len(node.fake.asked) for node in cluster]


@pytest.mark.parametrize(
    "said",
    ['url = ["http://one:6333/", "https://two"]', 'url = "http://one:6333, https://two"'],
    ids=["a list", "commas"],
)
def test_addresses_are_a_list_or_separated_by_commas(tmp_path: Path, said: str, user_configuration: Any) -> None:
    user_configuration(f"[index]\ntimeout = 3.0\n{said}\n")
    server = ServerConfig.of(MolarSettings.load(tmp_path).index)
    assert server is not None
    assert server.url == "http://one:6333,https://two"
    assert [(node.url, node.timeout) for node in server.nodes] == [("http://one:6333", 1.5), ("https://two", 1.5)]
    assert server.name == "the Qdrant cluster at http://one:6333, https://two"
    environ = {"MOLAR_INDEX_URL": "http://a,http://b,http://a"}
    assert MolarSettings.load(tmp_path, environ=environ).index.url == "http://a,http://b"
    one = ServerConfig("http://one", timeout=2.0)
    assert one.nodes == (one,)


@pytest.mark.parametrize("wrong", ["http://me:hidden@two", "two:6333", "http://two?api-key=hidden", ""])
def test_each_address_is_looked_at(tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as error:
        MolarSettings.load(tmp_path, environ={"MOLAR_INDEX_URL": f"http://one:6333,{wrong}"})
    assert "hidden" not in error.value.message
    monkeypatch.setenv(KEY, "k-1234")
    assert ServerConfig("https://one,http://two", key_over_http=True).exposes_the_key
    assert not ServerConfig("https://one,https://two,http://127.0.0.1:6333").exposes_the_key


def test_queries_go_on_where_a_node_dies(workspace: Workspace, cluster: list[Node]) -> None:
    send(workspace, at(cluster))
    assert counts(cluster)[1:] == [0, 0]  # the first one answers, and is asked alone
    with open_served(workspace, place(at(cluster), timeout=2.0)) as generation, open_generation(workspace) as own:
        wanted = [row for row, _ in own.index.top("aligned", QUERY, 5)]
        cluster[0].kill()
        for _ in range(2):
            assert [row for row, _ in generation.index.top("aligned", QUERY, 5)] == wanted
        assert not generation.notes
        before = counts(cluster)
        generation.index.top("aligned", QUERY, 5)
        assert counts(cluster)[0] == before[0]  # it rests
    assert asked(workspace, at(cluster)) == 1  # nothing listens at the first address when this one connects


@pytest.mark.alone
def test_a_node_that_hangs_costs_half_of_the_time_once(workspace: Workspace, cluster: list[Node]) -> None:
    send(workspace, at(cluster))
    cluster[0].hang()
    began = time.monotonic()
    with open_served(workspace, place(at(cluster), timeout=1.2)) as generation:
        assert 0.6 <= time.monotonic() - began < 1.2
        before = counts(cluster)
        assert generation.index.top("aligned", QUERY, 3)
        assert counts(cluster)[0] == before[0]
    with open_served(workspace, place(at(cluster), timeout=1.2)):
        assert counts(cluster)[0] == before[0]  # the whole process knows


@pytest.mark.alone
def test_a_node_that_rests_is_asked_again(cluster: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "REST", 0.2)

    def asked_of_the_first() -> bool:
        before = counts(cluster)
        connection.ask(connection.client.get_aliases)
        return counts(cluster)[0] > before[0]

    with connected(place(at(cluster))) as connection:
        cluster[0].fail()
        assert [asked_of_the_first() for _ in range(2)] == [True, False]
        time.sleep(0.25)
        assert [asked_of_the_first() for _ in range(2)] == [True, False]
        cluster[0].recover()
        time.sleep(0.25)
        assert not asked_of_the_first()  # after a second failure in a row it rests twice as long
        time.sleep(0.25)
        assert [asked_of_the_first() for _ in range(2)] == [True, True]


def test_one_that_rests_is_better_than_none(workspace: Workspace, cluster: list[Node]) -> None:
    send(workspace, at(cluster))
    with open_served(workspace, place(at(cluster))) as generation:
        cluster[0].fake.faults = [Fault("", status=500)]
        assert generation.index.top("aligned", QUERY, 3)
        cluster[1].kill()
        cluster[2].kill()
        assert generation.index.top("aligned", QUERY, 3)


@pytest.mark.alone
def test_where_no_node_answers_each_is_named_in_time(workspace: Workspace, cluster: list[Node], nobody: str) -> None:
    send(workspace, at(cluster))
    cluster[0].kill()
    cluster[1].hang()
    server = ServerConfig(f"{nobody},{address_of(cluster[:2])}", timeout=1.0)
    began = time.monotonic()
    with pytest.raises(BackendError) as error:
        open_served(workspace, server)
    assert time.monotonic() - began < 1.5
    assert error.value.exit_code == 4
    for said in (nobody, cluster[0].url, cluster[1].url, "nothing answers", "did not answer within 0.5 s"):
        assert said in error.value.message


def test_a_refusal_is_not_taken_to_another_node(
    workspace: Workspace, cluster: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "k-5f2a-right")
    for node in cluster:
        node.fake.key = "k-5f2a-right"
    cluster[0].kill()
    send(workspace, at(cluster))
    assert {one.key for one in cluster[1].fake.asked if one.path != "/"} == {"k-5f2a-right"}
    cluster[1].fake.key = "another"
    before = counts(cluster)
    with pytest.raises(BackendError, match="refuses the key") as error:
        open_served(workspace, place(at(cluster)))
    assert cluster[1].url in error.value.message
    assert cluster[2].url not in error.value.message
    assert counts(cluster)[2] == before[2]


@pytest.mark.parametrize("moment", [POINTS, "^PATCH", "POST /collections/aliases"], ids=["sending", "built", "switch"])
def test_a_push_goes_on_where_a_node_dies(workspace: Workspace, cluster: list[Node], moment: str) -> None:
    """Killed in the middle of the points, before the graphs are built, and when the alias is about to be switched."""
    send(workspace, at(cluster))
    release(workspace, 2).close()
    cluster[0].fake.faults = [Fault(moment, after=2 if moment == POINTS else 0, act=cluster[0].kill)]
    report = send(workspace, at(cluster), uploads=2)
    assert live(cluster[1:]) == report.collection
    assert cluster[1].fake.client.count(report.collection).count == N
    assert asked(workspace, at(cluster)) == 2


@pytest.mark.alone
def test_where_most_nodes_die_the_push_ends_and_the_next_one_sends_what_is_missing(
    workspace: Workspace, cluster: list[Node]
) -> None:
    """The last of three cannot agree with anybody: it refuses to write, and what was live stays so."""
    before = send(workspace, at(cluster)).collection
    release(workspace, 2).close()

    def alone() -> None:
        cluster[0].kill()
        cluster[1].kill()
        cluster[2].fail(WRITES)

    cluster[0].fake.faults = [Fault(POINTS, after=3, act=alone)]
    began = time.monotonic()
    with pytest.raises(BackendError) as error:
        send(workspace, at(cluster), uploads=1)
    assert time.monotonic() - began < 5  # of which the patience with one request is one second
    assert error.value.exit_code == 4
    assert live(cluster[2:]) == before
    assert asked(workspace, at(cluster)) == 1
    cluster[2].recover()
    report = send(workspace, at(cluster), uploads=1)
    assert (report.sent, report.before) == (N - 3 * 8, before)
    assert asked(workspace, at(cluster)) == 2


@pytest.mark.alone
def test_the_workspace_answers_only_where_no_node_does(workspace: Workspace, cluster: list[Node]) -> None:
    send(workspace, at(cluster), users="server")
    server = place(at(cluster), fallback="local", users="server", timeout=1.0)
    with open_served(workspace, server) as generation:
        cluster[0].kill()
        assert generation.index.top("aligned", QUERY, 3)
        assert generation.users.get("user 3") is not None
        assert not generation.notes
        cluster[1].kill()
        cluster[2].kill()
        assert generation.index.top("aligned", QUERY, 3)
        (note,) = generation.notes
        assert "the workspace's own index answers instead" in note
        assert all(node.url in note for node in cluster)


@pytest.mark.alone
def test_by_grpc_as_well(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address is asked at the port for gRPC that is beside its own."""
    with fake_both() as first, fake_both() as second:
        for fake in (first, second):
            send(workspace, fake)
        server = ServerConfig(f"{first.url},{second.url}", timeout=2.0)
        with open_served(workspace, server) as generation:
            wanted = generation.index.top("aligned", QUERY, 5)
            before = len(second.of("^GRPC"))
            first.faults = [Fault("", times=10**9, delay=3.0)]
            began = time.monotonic()
            assert generation.index.top("aligned", QUERY, 5) == wanted
            assert 1.0 <= time.monotonic() - began < 2.0
            first.faults.clear()
            monkeypatch.setattr(server_client, "_KNOWN", {})
            first.grpc.stop(None).wait()
            for _ in range(2):
                assert generation.index.top("aligned", QUERY, 5) == wanted
            assert len(second.of("^GRPC")) >= before + 3
        assert not second.of("query")  # searches went by gRPC alone


def looked_at(cluster: list[Node], workspace: Workspace) -> dict[str, Entry]:
    return {one.name: one for one in examined(place(at(cluster)), workspace.root)}


def test_doctor_says_which_nodes_are_down(workspace: Workspace, cluster: list[Node]) -> None:
    send(workspace, at(cluster))
    found = looked_at(cluster, workspace)
    assert {one.state for one in found.values()} == {HealthState.FINE}
    assert found["nodes"].value == "3, of which 3 answer"
    assert found["copies of items"].value == "3 shards in 6 copies, of which 6 are active"
    cluster[1].kill()
    found = looked_at(cluster, workspace)
    assert [found[f"address {n}"].state for n in (1, 2, 3)] == [HealthState.FINE, HealthState.WARNING, HealthState.FINE]
    assert cluster[1].url in str(found["address 2"].problem)
    assert found["nodes"].problem == "1 of 3 nodes of the cluster does not answer: http://127.0.0.1:6345"
    assert "2 of 6 copies of shards" in str(found["copies of items"].problem)
    assert "shard 0 at http://127.0.0.1:6345 is unreachable" in str(found["copies of items"].problem)
    assert found["copies of items"].state is HealthState.WARNING
    assert found["live items"].state is found["drift"].state is HealthState.FINE
    cluster[0].kill()
    found = looked_at(cluster, workspace)
    assert found["copies of items"].state is HealthState.BROKEN
    assert "no copy answers for shard 0" in str(found["copies of items"].problem)
    cluster[2].kill()
    found = looked_at(cluster, workspace)
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(found, HealthState.BROKEN)
    assert len(found) == 3


@pytest.mark.parametrize("asking", [True, False], ids=["1.17", "1.16"])
def test_one_address_tells_of_the_other_nodes(workspace: Workspace, cluster: list[Node], asking: bool) -> None:
    """From 1.17 on any node; before, the leader."""
    spread(cluster).asking = asking
    send(workspace, at(cluster))
    cluster[0 if asking else 2].kill()
    found = looked_at([cluster[1 if asking else 0]], workspace)
    assert "1 of 3 nodes of the cluster does not answer" in str(found["nodes"].problem)
    assert found["address"].state is HealthState.FINE


def test_copies_that_are_not_active_are_told_of(workspace: Workspace, cluster: list[Node]) -> None:
    topology = spread(cluster)
    assert send(workspace, at(cluster)).warnings == ()
    topology.states = {(0, 0): "Dead", (2, 2): "Partial"}
    release(workspace, 2).close()
    report = send(workspace, at(cluster))
    (said,) = report.warnings
    assert said == (
        f"2 of 6 copies of shards of {report.collection!r} are not active: shard 0 at http://127.0.0.1:6335 is dead,"
        " shard 2 at http://127.0.0.1:6355 is partial"
    )
    shop = molar.Shop(None, workspace.root)
    found = shop.verify(index=address_of(cluster))
    assert (found.problems, found.warnings) == ((), (said,))
    topology.states |= {(0, 1): "Recovery"}
    assert "no copy answers for shard 0" in send(workspace, at(cluster)).warnings[0]
    topology.states.clear()  # the nodes are back
    found = shop.verify(index=address_of(cluster), deep=True)
    assert found.problems == found.warnings == ()


def test_a_key_for_collections_alone_is_enough(workspace: Workspace, cluster: list[Node]) -> None:
    for node in cluster:
        node.fake.faults.append(Fault("GET /cluster$", times=99, status=403, error="Global access is required"))
    report = send(workspace, at(cluster))
    assert "Global access is required" in report.warnings[0]
    found = looked_at(cluster, workspace)
    assert found["nodes"].state is HealthState.WARNING
    assert found["live items"].state is HealthState.FINE


def test_closing_closes_all_of_them(cluster: list[Node]) -> None:
    with connected(place(at(cluster))) as connection:
        cluster[0].fail()
        connection.client.get_aliases()
        stand_in: Any = connection.client
        clients = [node._client for node in stand_in._nodes]
    assert [client is not None for client in clients] == [True, True, False]
    assert all(client._client.closed for client in clients if client is not None)
    connect(place(at(cluster))).close()
