"""A server that fails in every way: exit 4 with the remedy, in bounded time, and nothing half published."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from test_indexes_generations import N, release, released
from test_server_push import place, send

from molar_indexes.server import client, push
from molar_indexes.server import client as server_client
from molar_indexes.server import push as server_push
from molar_indexes.server.client import Connection, ServerError, asking, connect, fault_of, persistently
from molar_indexes.server.collections import published, target
from molar_indexes.server.config import KEY, ServerConfig, key
from molar_indexes.server.opening import open_served
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.ranking.filters import Between
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

pytestmark = pytest.mark.slow

QUERY = [1.0, 0.0, 0.0, 0.0]
POINTS = "^PUT .*/points$"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return released(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_push, "BLOCK", 8)
    monkeypatch.setattr(push, "POLL", 0.01)
    monkeypatch.setattr(server_client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(server_client, "PATIENCE", 1.0)
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def live(fake: FakeQdrant) -> str | None:
    return target(Connection(fake.client, place(fake)), "molar")


PERSISTENT = [
    pytest.param(Fault(POINTS, times=999, after=2, status=500, error="shard 0: panic"), "500", "log", id="500"),
    pytest.param(Fault(POINTS, times=999, after=2, cut=True), "broke off", "log", id="truncated"),
    pytest.param(Fault(POINTS, times=999, after=2, status=429), "no more requests", "limits", id="429"),
    pytest.param(
        Fault(POINTS, times=999, status=429, headers={"Retry-After": "3600"}), "3600 s", "limits", id="429 for an hour"
    ),
    pytest.param(
        Fault(POINTS, times=999, after=2, status=500, error="Service internal error: No space left on device"),
        "no room left",
        "make room there",
        id="full disk",
    ),
    pytest.param(Fault(POINTS, times=999, status=507), "no room left", "index prune", id="507"),
    pytest.param(
        Fault(POINTS, times=999, after=2, status=403, error="read-only key"), "refuses", KEY, id="may not write"
    ),
    pytest.param(
        Fault("/index$", times=999, status=400, error="bad schema"), "bad schema", "doctor", id="index refused"
    ),
    pytest.param(Fault("POST /collections/aliases", times=999, status=500), "500", "log", id="alias refused"),
    pytest.param(Fault("^PATCH", times=999, status=500), "500", "log", id="graphs refused"),
    pytest.param(Fault("GET /aliases", times=999, cut=True), "broke off", "log", id="aliases truncated"),
]


@pytest.mark.parametrize(("fault", "said", "remedy"), PERSISTENT)
def test_a_push_that_fails_leaves_what_is_live(
    workspace: Workspace, fake: FakeQdrant, fault: Fault, said: str, remedy: str
) -> None:
    before = send(workspace, fake).collection
    release(workspace, 2).close()
    fake.faults = [Fault(fault.of, 999, fault.after, fault.status, fault.error, fault.headers, cut=fault.cut)]
    began = time.monotonic()
    with pytest.raises(BackendError) as error:
        send(workspace, fake)
    assert time.monotonic() - began < 15
    assert error.value.exit_code == 4
    assert said in error.value.message
    assert remedy in error.value.hint
    fake.faults = []
    assert live(fake) == before
    with open_served(workspace, place(fake)) as generation:
        assert generation.index.fetch([0])[0].payload["mark"] == 1
    assert send(workspace, fake).before == before  # and the next one goes on, and through
    assert fake.client.count(live(fake)).count == N


PASSING = [
    pytest.param(Fault(POINTS, times=3, after=1, status=500), id="500 three times"),
    pytest.param(Fault(POINTS, times=2, cut=True), id="truncated answers"),
    pytest.param(
        Fault(POINTS, times=2, status=429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), id="429 by date"
    ),
    pytest.param(Fault("PUT .*/index$", times=2, status=503), id="a payload index fails twice"),
    pytest.param(Fault("^PATCH", times=2, status=500), id="graphs fail twice"),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(workspace: Workspace, fake: FakeQdrant, fault: Fault) -> None:
    fake.faults = [Fault(fault.of, fault.times, fault.after, fault.status, headers=fault.headers, cut=fault.cut)]
    report = send(workspace, fake)
    assert not fake.faults
    assert live(fake) == report.collection
    assert fake.client.count(report.collection).count == N


def test_retry_after_is_honoured(workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "PATIENCE", 10.0)
    refused: list[float] = []
    stop = Fault(
        POINTS, after=1, status=429, headers={"Retry-After": "2"}, act=lambda: refused.append(time.monotonic())
    )
    fake.faults = [stop]
    times: list[float] = []
    passing = Fault(POINTS, times=999, act=lambda: times.append(time.monotonic()))
    fake.faults.append(passing)
    report = send(workspace, fake, uploads=1)
    assert report.sent == N
    (at,) = refused
    assert min(t for t in times if t > at) - at >= 2.0


def test_where_one_batch_fails_the_others_wait_no_longer(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "PATIENCE", 60.0)
    fake.faults = [
        Fault(POINTS, times=3, status=503, headers={"Retry-After": "50"}),
        Fault(POINTS, times=99, status=403),
    ]
    began = time.monotonic()
    with pytest.raises(BackendError, match="refuses"):
        send(workspace, fake, uploads=4)
    assert time.monotonic() - began < 20


@pytest.mark.alone
def test_nothing_listens(workspace: Workspace, nobody: str) -> None:
    began = time.monotonic()
    with pytest.raises(BackendError) as error:
        open_served(workspace, ServerConfig(nobody))
    assert time.monotonic() - began < 2
    assert nobody in error.value.message
    assert "--index" in error.value.hint


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "db.inside")
    assert server_client.proxy_of("http://db.example:6333") == "http://proxy.example:3128"
    assert server_client.proxy_of("http://db.inside:6333") is None
    assert server_client.proxy_of("http://127.0.0.1:6333") is None


def test_nothing_listens_by_grpc(nobody: str) -> None:
    port = int(nobody.rsplit(":", 1)[1])
    with pytest.raises(BackendError) as error:
        connect(ServerConfig(nobody, grpc_port=port, timeout=1.0))
    assert str(port) in error.value.message


@pytest.mark.alone
@pytest.mark.parametrize(
    "fault", [Fault("", times=99, delay=5.0), Fault("", times=99, drip=0.05)], ids=["slow", "drip"]
)
def test_a_slow_server_is_given_up_in_time(workspace: Workspace, fake: FakeQdrant, fault: Fault) -> None:
    send(workspace, fake)
    fake.faults = [Fault("", times=99, delay=fault.delay, drip=fault.drip)]
    began = time.monotonic()
    with pytest.raises(BackendError) as error:
        open_served(workspace, place(fake, timeout=0.4))
    assert 0.4 <= time.monotonic() - began < 1.5
    assert "0.4 s" in error.value.message
    assert "timeout" in error.value.hint


@pytest.mark.alone
def test_a_push_to_a_server_that_hangs_is_given_up_in_time(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "GREETING", 0.4)
    fake.faults = [Fault("", times=99, delay=5.0)]
    began = time.monotonic()
    with pytest.raises(BackendError, match=r"within 0\.4 s"):
        send(workspace, fake)  # although each request of a push may take a minute
    assert time.monotonic() - began < 2


def test_the_timeout_is_two_seconds_unless_said() -> None:
    server = ServerConfig.of(IndexSettings(url="http://db.example:6333"))
    assert server is not None
    assert server.timeout == ServerConfig("http://db.example:6333").timeout == 2.0


@pytest.mark.alone
def test_a_server_that_dies_between_two_questions(workspace: Workspace, fake: FakeQdrant) -> None:
    send(workspace, fake)
    with open_served(workspace, place(fake, timeout=0.4)) as generation:
        assert generation.index.top("aligned", QUERY, 3)
        for fault in (
            Fault("/query/batch$", status=500),
            Fault("/query/batch$", cut=True),
            Fault("/query/batch$", delay=3.0),
        ):
            fake.faults = [fault]
            began = time.monotonic()
            with pytest.raises(BackendError):
                generation.index.top("aligned", QUERY, 3)
            assert time.monotonic() - began < 1.5  # a query is not tried again: somebody waits for it
        fake.faults = [Fault("/query/batch$", status=429, headers={"Retry-After": "7"})]
        with pytest.raises(BackendError, match="7 s"):
            generation.index.top("aligned", QUERY, 3)


@pytest.mark.parametrize("of", ["", "GET /aliases", "GET /collections/molar-"])
def test_the_workspace_answers_only_where_it_may(workspace: Workspace, fake: FakeQdrant, of: str) -> None:
    send(workspace, fake)
    fake.faults = [Fault(of, times=999, status=500)]
    with pytest.raises(BackendError):
        open_served(workspace, place(fake))
    with open_served(workspace, place(fake, fallback="local")) as generation:
        assert len(generation.notes) == 1
        assert "the workspace's own generation answers instead" in generation.notes[0]
        assert generation.index.top("aligned", QUERY, 3)


def test_the_workspace_goes_on_in_the_middle(workspace: Workspace, fake: FakeQdrant) -> None:
    send(workspace, fake, users="server")
    server = place(fake, fallback="local", users="server")
    with open_served(workspace, server) as generation:
        wanted = generation.index.top("aligned", QUERY, 5, exclude=iter([1]))
        user = generation.users.get("user 3")
        assert not generation.notes
        fake.faults = [Fault("", times=999, status=500)]
        asked = len(fake.asked)
        assert generation.index.top("aligned", QUERY, 5, exclude=iter([1])) == wanted
        assert generation.index.fetch([3])[0].item_id == "item 3"
        assert generation.index.rows(["item 4"]) == [4]
        assert list(generation.users.get("user 3").history) == list(user.history)
        assert [u.user_id for u in generation.users.between(0, 2)] == ["user 0", "user 1"]
        assert len(fake.asked) == asked + 2  # it is asked once for items, once for users, and then left alone
        assert len(generation.notes) == 2


def test_a_version_too_far_away(workspace: Workspace, fake: FakeQdrant) -> None:
    fake.version = "1.2.3"
    with pytest.raises(BackendError, match=r"1\.2\.3") as error:
        send(workspace, fake)
    assert "update the older" in error.value.hint
    assert not fake.of("PUT|POST|PATCH|DELETE")


@pytest.mark.parametrize("version", ["1.16.0", "1.31.2"])
def test_versions_that_go_together(workspace: Workspace, fake: FakeQdrant, version: str) -> None:
    """The fake refuses what a server of its version does not know."""
    fake.version = version
    send(workspace, fake, users="server", quantisation="scalar")
    with open_served(workspace, place(fake, users="server")) as generation:
        found = generation.index.top("aligned", QUERY, 3, exclude=[1], where=Between("mark", gte=0.5))
        assert len(found) == 3
        assert generation.users.get("user 3") is not None


def test_something_else_answers(workspace: Workspace, fake: FakeQdrant) -> None:
    fake.faults = [Fault("GET /$", act=lambda: setattr(fake, "version", None))]
    with pytest.raises(BackendError) as error:
        open_served(workspace, place(fake))
    assert "otherwise than Qdrant does" in error.value.message


def test_the_key_comes_from_the_environment_and_is_never_shown(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.key = secret = "k-3e1f-very-secret"
    with pytest.raises(BackendError) as error:
        send(workspace, fake)
    assert "a request without a key" in error.value.message
    assert KEY in error.value.hint
    monkeypatch.setenv(KEY, "wrong-" + secret)
    fake.faults = [Fault("^GET /$", status=403, error=f"the key wrong-{secret} is not known")]
    with pytest.raises(BackendError) as error:
        send(workspace, fake)
    assert secret not in f"{error.value} {error.value.message} {error.value.hint}"
    assert KEY in error.value.message
    monkeypatch.setenv(KEY, secret)
    report = send(workspace, fake)
    with open_served(workspace, place(fake)) as generation:
        assert generation.index.top("aligned", QUERY, 1)
        assert secret not in repr(place(fake))
    assert {one.key for one in fake.of("PUT")} == {secret}
    assert secret not in str(report.to_dict())
    written = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert not written
    assert secret not in str(fake.client.get_collection(report.collection))
    assert not place(fake).exposes_the_key
    with pytest.raises(SettingsError, match="unencrypted"):
        _ = ServerConfig("http://db.example:6333").exposes_the_key
    assert not ServerConfig("https://db.example:6333").exposes_the_key
    monkeypatch.setenv(KEY, "")
    assert key() is None


def test_two_pushes_at_once(workspace: Workspace, fake: FakeQdrant, tmp_path: Path) -> None:
    """Another machine publishes while this one uploads: it stays live, and this one says so."""
    (tmp_path / "other").mkdir()
    other = Workspace.for_catalogue(tmp_path / "other" / ".molar", tmp_path / "shop")
    release(other, 7).close()
    fake.faults = [Fault("^PATCH", act=lambda: send(other, fake))]
    with pytest.raises(BackendError) as error:
        send(workspace, fake)
    assert "somebody else switched 'molar'" in error.value.message
    assert "index list" in error.value.hint
    with open_served(other, place(fake)) as generation:
        assert generation.index.fetch([0])[0].payload["mark"] == 7
    send(workspace, fake)  # said again, it is meant
    assert [one.live for one in published(Connection(fake.client, place(fake)), "molar")].count(True) == 1


def test_the_last_moment_of_a_race(workspace: Workspace, fake: FakeQdrant) -> None:
    """The other one switches between this one's switch and its look at what came of it."""
    theirs = send(workspace, fake).collection
    release(workspace, 2).close()

    def steal() -> None:
        alias = models.CreateAlias(collection_name=theirs, alias_name="molar")
        fake.client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])

    fake.faults = [Fault("GET /aliases", after=sum(1 for _ in range(2)), act=steal)]
    with pytest.raises(BackendError, match="somebody else switched"):
        send(workspace, fake)
    assert live(fake) == theirs


def test_two_pushes_of_one_workspace(workspace: Workspace, fake: FakeQdrant) -> None:
    with workspace.lock("push"), pytest.raises(Exception, match="another process"):
        send(workspace, fake)


def test_waits_grow_and_end() -> None:
    server, told, began = ServerConfig("http://nowhere:1"), [], time.monotonic()

    def fails() -> None:
        raise ResourceExhaustedResponse("busy", 0)

    with pytest.raises(ServerError):
        persistently(server, fails, told.append, patience=0.2)
    assert time.monotonic() - began < 1
    assert told

    class Refusal(grpc.RpcError, grpc.Call):
        def __init__(self, code: grpc.StatusCode) -> None:
            self._code = code

        def code(self) -> grpc.StatusCode:
            return self._code

        def details(self) -> str:
            return "said by gRPC"

    for name, again in [("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", True), ("RESOURCE_EXHAUSTED", True),
                        ("INTERNAL", True), ("UNAUTHENTICATED", False), ("NOT_FOUND", False)]:  # fmt: skip
        Refusal.__abstractmethods__ = frozenset()
        fault = fault_of(server, Refusal(grpc.StatusCode[name]))
        assert fault.again is again, name
        assert fault.hint
    with pytest.raises(ServerError, match="otherwise"), asking(server):
        raise ValueError("no JSON")
