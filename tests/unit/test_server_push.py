"""Pushing a generation to a server: what is sent, what is live when, what a second run does."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import models
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from shard_jobs import Killing, Stopping
from test_indexes_generations import N, items, release, released, users

from molar_indexes import publish_check
from molar_indexes.generations import open_generation
from molar_indexes.server import push as server_push
from molar_indexes.server.client import Connection, connect
from molar_indexes.server.collections import KEY, live, prune, published, remove_others, rollback, target
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import open_served
from molar_indexes.server.points import Layout
from molar_indexes.server.push import PushReport, push
from molar_retrieval.errors import BackendError, DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import SCAN
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner
from molar_retrieval.workspace.settings import IndexSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return released(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        yield server


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_push, "BLOCK", 8)
    monkeypatch.setattr(server_push, "POLL", 0.01)


def settings(fake: FakeQdrant, **more: object) -> IndexSettings:
    return IndexSettings(url=fake.url, **{"timeout": 30.0, **more})  # cores may be busy


def place(fake: FakeQdrant, **more: object) -> ServerConfig:
    server = ServerConfig.of(settings(fake, **more))
    assert server is not None
    return server


def send(workspace: Workspace, fake: FakeQdrant, **more: object) -> PushReport:
    return push(workspace, settings(fake, **more))


def asked(workspace: Workspace, fake: FakeQdrant, **more: object) -> int:
    """The mark of the generation that answers, from its payloads."""
    with open_served(workspace, place(fake, **more)) as generation:
        rows = [row for row, _ in generation.index.top("aligned", [1.0, 0.0, 0.0, 0.0], 5, exclude=[3])]
        (mark,) = {item.payload["mark"] for item in generation.index.fetch(rows)}
        user = generation.users.get("user 7")
        assert user is not None
        assert int(user.vector[3]) == mark
        assert len(user.sparse.indices) == 2
        return mark


def test_another_shop_under_the_same_name_is_left_alone(workspace: Workspace, fake: FakeQdrant, tmp_path: Path) -> None:
    send(workspace, fake)
    (tmp_path / "other").mkdir()
    other = Workspace.for_catalogue(tmp_path / ".other", tmp_path / "other")
    foreign = (dataclasses.replace(item, item_id=f"sku {item.row}") for item in items(2))
    release(other, 2, items=foreign).close()
    there = published(Connection(fake.client, place(fake)), "molar")
    with pytest.raises(DataError, match="items of this catalogue") as caught:
        send(other, fake)
    assert "--replace" in str(caught.value.hint)
    assert published(Connection(fake.client, place(fake)), "molar") == there
    assert asked(workspace, fake) == 1
    assert push(other, settings(fake), replace=True).before is not None
    own_name = settings(fake, collection="other")
    assert push(other, own_name).before is None


def test_a_push_goes_live_and_answers_as_the_workspace(workspace: Workspace, fake: FakeQdrant) -> None:
    report = send(workspace, fake)
    assert (report.items, report.sent, report.users, report.before, report.up_to_date) == (N, N, None, None, False)
    server = place(fake)
    with open_generation(workspace) as own, open_served(workspace, server) as served:
        assert served.name == own.name == report.generation
        for name in ("aligned", "cold_start", "content"):
            query = [0.3, -1.0, 0.5, 2.0][: own.spec.dims[name]]
            mine, theirs = (dict(index.top(name, query, 20)) for index in (own.index, served.index))
            assert list(theirs) == list(mine)
            assert theirs == pytest.approx(mine, abs=1e-5)
        assert served.index.fetch([5], vectors=["aligned", "item_item"]) == own.index.fetch(
            [5], vectors=["aligned", "item_item"]
        )
        assert served.users.get("user 7") is not None
    assert not fake.of("users")  # histories stay in the house


def test_points_have_rows_as_ids_and_their_own_ids_as_payload(workspace: Workspace, fake: FakeQdrant) -> None:
    report = send(workspace, fake)
    (record,) = fake.client.retrieve(report.collection, [7])
    assert record.payload["item_id"] == "item 7"
    assert not any(key.startswith("%") for key in record.payload)


def test_a_collection_of_an_earlier_format_is_listed_pushed_anew_and_removed(
    workspace: Workspace, fake: FakeQdrant
) -> None:
    report, server = send(workspace, fake), place(fake)
    metadata = fake.client.get_collection(report.collection).config.metadata[KEY]
    earlier = {name: value for name, value in metadata.items() if name != "format"} | {"format": 1}
    layout = Layout(**metadata["layout"])
    name = f"molar-{report.generation}-{layout.mark}"
    fake.client.create_collection(name, {}, metadata={KEY: earlier})
    alias = models.CreateAlias(collection_name=name, alias_name="molar")
    fake.client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    connection = connect(server)
    assert {one.name: one.live for one in published(connection, "molar")} == {name: True, report.collection: False}
    with pytest.raises(StaleArtefactError, match="points of format 1 there, 2 here") as refused:
        open_served(workspace, server)
    assert "molar index push" in refused.value.hint
    fake.client.upsert(name, [models.PointStruct(id=0, vector={}, payload={"item_id": "item 0"})])
    assert send(workspace, fake).before == name  # it has an item of this shop, so it may be replaced
    with pytest.raises(MissingArtefactError, match="no whole generation"):
        rollback(connection, report.generation)
    assert remove_others(connection, "molar") == [name]


def test_the_collection_is_laid_out_as_the_settings_say(workspace: Workspace, fake: FakeQdrant) -> None:
    chosen = {"shards": 3, "replicas": 2, "on_disk": True, "quantisation": "scalar"}
    report = send(workspace, fake, **chosen)
    (made,) = fake.of("^PUT /collections/[^/]+$")
    body = models.CreateCollection(**made.body)
    assert (body.shard_number, body.replication_factor, body.on_disk_payload) == (3, 2, True)
    assert set(body.vectors) == {"aligned", "cold_start", "content"}
    assert set(body.sparse_vectors) == {"item_item"}
    assert all(v.on_disk and v.distance == models.Distance.DOT for v in body.vectors.values())
    assert all(v.hnsw_config.m == 0 for v in body.vectors.values())  # graphs come once all points are there
    assert {name for name, v in body.vectors.items() if v.quantization_config} == {"aligned", "cold_start", "content"}
    kinds = {i.body["field_name"]: i.body["field_schema"] for i in fake.of("PUT .*/index$")}
    assert kinds == {'"item_id"': "keyword", '"brand"': "keyword", '"new"': "bool"}
    order = [f"{a.method} {a.path.rsplit('/', 1)[-1]}" for a in fake.asked]
    built = next(n for n, a in enumerate(fake.asked) if a.method == "PATCH" and "vectors" in a.body)
    assert built > max(n for n, what in enumerate(order) if what == "PUT points")
    assert order.index("POST aliases") > built
    assert {v["hnsw_config"]["m"] for v in fake.asked[built].body["vectors"].values()} == {16}
    other = send(workspace, fake, **{**chosen, "shards": 4})
    assert other.collection != report.collection
    assert other.before == report.collection


def test_a_second_push_of_the_same_sends_nothing(workspace: Workspace, fake: FakeQdrant) -> None:
    first = send(workspace, fake)
    before = len(fake.of("PUT .*/points$"))
    again = send(workspace, fake)
    assert (again.collection, again.sent, again.up_to_date) == (first.collection, 0, True)
    assert len(fake.of("PUT .*/points$")) == before


def test_a_push_that_dies_leaves_what_is_live_and_the_next_one_goes_on(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were killed before any of its writing requests, one after the other."""
    send(workspace, fake)
    old = target(Connection(fake.client, place(fake)), "molar")
    release(workspace, 2).close()
    monkeypatch.setattr("molar_indexes.server.client.PATIENCE", 0.0)
    sent = deaths = 0
    while True:
        fake.faults = [Fault("^(PUT|PATCH) |POST /collections/aliases", times=99, after=deaths, status=418)]
        fake.asked.clear()
        try:
            report = send(workspace, fake, uploads=1)
        except BackendError:
            deaths += 1
            sent += len(fake.of("PUT .*/points$"))
            assert target(Connection(fake.client, place(fake)), "molar") == old
            fake.faults = []
            assert asked(workspace, fake) == 1
            continue
        break
    assert deaths > 5
    assert report.before == old
    assert asked(workspace, fake) == 2
    assert fake.client.count(report.collection).count == N
    assert sent <= 8 + deaths  # every block was stored once; one request of each run was refused


def test_a_fresh_push_and_a_resumed_one_end_with_the_same_collection(workspace: Workspace, fake: FakeQdrant) -> None:
    fake.faults = [Fault("PUT .*/points$", times=99, after=3, status=403)]
    with pytest.raises(BackendError):
        send(workspace, fake, uploads=1)
    assert target(Connection(fake.client, place(fake)), "molar") is None
    fake.faults = []
    report = send(workspace, fake, uploads=1)
    assert report.sent == N - 3 * 8
    with fake_qdrant() as other:
        assert send(workspace, other).collection == report.collection

        def everything(client: object) -> list[models.Record]:
            return client.scroll(report.collection, limit=2 * N, with_payload=True, with_vectors=True)[0]

        assert sorted(everything(fake.client), key=str) == sorted(everything(other.client), key=str)


def test_batches_are_bounded_in_bytes(workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molar_indexes.server.push.BLOCK", 1000)
    monkeypatch.setattr(server_push.batches, "__defaults__", (6000,))
    send(workspace, fake)
    sizes = [one.size for one in fake.of("PUT .*/points$")]
    assert len(sizes) > 5
    assert max(sizes) <= 6000
    assert sum(len(one.body["points"]) for one in fake.of("PUT .*/points$")) == N


def test_batches_travel_side_by_side(workspace: Workspace, fake: FakeQdrant) -> None:
    together = threading.Barrier(3)
    fake.faults = [Fault("PUT .*/points$", times=1, act=lambda: together.wait(10)) for _ in range(3)]
    send(workspace, fake, uploads=3)  # the barrier breaks, and the push fails, unless three are on their way at once
    assert not together.broken


def test_users_go_to_the_server_only_where_that_is_wished(workspace: Workspace, fake: FakeQdrant) -> None:
    report = send(workspace, fake, users="server")
    assert report.users == 40
    collection = target(Connection(fake.client, place(fake)), "molar.users")
    assert collection == f"molar.users-{report.generation}-{report.collection.rsplit('-', 1)[-1]}"
    server = place(fake, users="server")
    with open_generation(workspace) as own, open_served(workspace, server) as served:
        assert len(served.users) == 40
        for user_id in ("user 0", "user 39"):
            mine, theirs = own.users.get(user_id), served.users.get(user_id)
            assert list(mine.vector) == list(theirs.vector)
            assert list(mine.history) == list(theirs.history)
            assert list(mine.times) == list(theirs.times) != []
            assert (list(mine.sparse.indices), list(mine.sparse.values)) == (
                list(theirs.sparse.indices),
                list(theirs.sparse.values),
            )
        assert [u.user_id for u in served.users.between(3, 6)] == ["user 3", "user 4", "user 5"]
        assert [u.user_id for batch in served.users.batches(16) for u in batch] == [f"user {n}" for n in range(40)]
        assert served.users.get("nobody") is None
    switched = fake.of("POST /collections/aliases")[-1].body["actions"]
    assert [a["create_alias"]["alias_name"] for a in switched] == ["molar", "molar.users"]  # in one request


def test_a_new_alignment_changes_nothing_before_it_is_pushed(workspace: Workspace, fake: FakeQdrant) -> None:
    send(workspace, fake)
    release(workspace, 2).close()
    assert asked(workspace, fake) == 1
    send(workspace, fake)
    assert asked(workspace, fake) == 2


def test_rolling_back_and_removing(workspace: Workspace, fake: FakeQdrant) -> None:
    for mark in (1, 2, 3):
        release(workspace, mark, keep=5).close()
        send(workspace, fake, users="server")
    server = place(fake, users="server")
    connection = connect(server)
    rollback(connection)
    assert asked(workspace, fake, users="server") == 2
    oldest = published(connection, "molar")[0]
    rollback(connection, oldest.metadata.generation)
    assert asked(workspace, fake, users="server") == 1
    with pytest.raises(MissingArtefactError, match="before"):
        rollback(connection)
    send(workspace, fake, users="server")
    removed = prune(connection, keep=1)
    assert len(removed) == 2  # of the items and of the users
    assert asked(workspace, fake, users="server") == 3
    first, second = published(connection, "molar")
    assert prune(connection, keep=0, spare={first.metadata.generation}) == []
    assert second.live
    prune(connection, keep=0)
    assert [one.live for one in published(connection, "molar")] == [True]


def test_a_collection_that_lost_points_is_not_rolled_back_to(workspace: Workspace, fake: FakeQdrant) -> None:
    first = send(workspace, fake)
    release(workspace, 2).close()
    now = send(workspace, fake)
    fake.client.delete(first.collection, [3])
    with pytest.raises(BackendError, match="59 points instead of 60"):
        rollback(connect(place(fake)))
    assert target(Connection(fake.client, place(fake)), "molar") == now.collection


def test_unfinished_collections_are_never_live(workspace: Workspace, fake: FakeQdrant) -> None:
    send(workspace, fake)
    release(workspace, 2).close()
    fake.faults = [Fault("PUT .*/points$", times=99, after=2, status=403)]
    with pytest.raises(BackendError):
        send(workspace, fake, uploads=1)
    fake.faults = []
    release(workspace, 3).close()
    send(workspace, fake)
    server = place(fake)
    connection = connect(server)
    assert [one.metadata.whole for one in published(connection, "molar")] == [True, False, True]
    rollback(connection)
    assert asked(workspace, fake) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": {"alignment": "another"}}, "alignment another there, a1 here"),
        ({"inputs": {"content": "c2", "alignment": "a1"}}, "encoder and its vectors c2 there, none here"),
        ({"ids": "0" * 32}, "the items' ids 0000000000000000 there"),
        ({"count": 61}, "61 items there, 60 here"),
    ],
)
def test_another_collection_is_refused_with_both_sides_named(
    workspace: Workspace, fake: FakeQdrant, change: dict[str, object], said: str
) -> None:
    report = send(workspace, fake)
    own = fake.client.get_collection(report.collection).config.metadata[KEY]
    fake.client._client.collections[report.collection].config.metadata[KEY] = {**own, **change}
    with pytest.raises(StaleArtefactError) as error:
        open_served(workspace, place(fake))
    assert said in error.value.message
    assert report.collection in error.value.message
    with pytest.raises(StaleArtefactError):
        send(workspace, fake)


def test_a_generation_that_the_workspace_lacks_is_refused(workspace: Workspace, fake: FakeQdrant) -> None:
    report = send(workspace, fake)
    release(workspace, 2, keep=0).close()
    with pytest.raises(StaleArtefactError) as error:
        open_served(workspace, place(fake))
    assert report.generation in error.value.message
    assert workspace["generations"].current.name in error.value.message


def test_nothing_is_live_yet_or_something_else(workspace: Workspace, fake: FakeQdrant) -> None:
    with pytest.raises(MissingArtefactError, match="nothing live under the name 'molar'"):
        open_served(workspace, place(fake))
    fake.client.create_collection("theirs", vectors_config={})
    alias = models.CreateAlias(collection_name="theirs", alias_name="molar")
    fake.client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    with pytest.raises(BackendError, match="not published by molar"):
        live(connect(place(fake)), "molar")


def test_the_alias_waits_for_graphs(workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ["yellow", "grey", "yellow", "green", "yellow", "green", "green", "green"]
    fake.faults = [Fault("^PATCH", act=lambda: fake.statuses.__setitem__(slice(None), waiting))]
    send(workspace, fake)
    assert fake.statuses == ["green"]
    release(workspace, 2).close()
    fake.faults = [Fault("^PATCH", act=lambda: fake.statuses.__setitem__(slice(None), ["yellow"]))]
    monkeypatch.setattr(server_push, "STALLED", 0.1)
    with pytest.raises(BackendError, match="is yellow"):
        send(workspace, fake)
    fake.statuses = ["red"]
    with pytest.raises(BackendError, match="is red"):
        send(workspace, fake)
    fake.statuses = ["green"]
    assert asked(workspace, fake) == 1


def test_a_damaged_point_is_noticed_before_anything_goes_live(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server_push.batches

    def damaged(points: list[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
        for batch in real(points):
            for point in batch:
                if point.id == 30:
                    point.vector["aligned"][0] += 0.5
            yield batch

    monkeypatch.setattr(server_push, "batches", damaged)
    monkeypatch.setattr(server_push, "_SAMPLE", N)
    with pytest.raises(BackendError, match="item 'item 30' has other vectors"):
        send(workspace, fake)
    assert target(Connection(fake.client, place(fake)), "molar") is None


def test_the_generations_of_these_tests_are_what_they_seem() -> None:
    assert len(list(items(1))) == N
    assert len(list(users(1))) == 40


def test_graphs_of_the_server_that_miss_items_are_not_used(workspace: Workspace, fake: FakeQdrant) -> None:
    fake.misses = 10**9
    report = send(workspace, fake)
    with open_served(workspace, place(fake)) as served, open_generation(workspace) as own:
        assert served.index.spec.efs == {"aligned": SCAN, "content": SCAN}
        assert own.spec.efs == {}  # the graphs of the server are not those of the workspace
        assert asked(workspace, fake) == 1
        query = [0.3, -1.0, 0.5, 2.0]
        assert [r for r, _ in served.index.top("aligned", query, 5)] == [
            r for r, _ in own.index.top("aligned", query, 5)
        ]
    assert fake.of(f"{report.collection}/points/query")[-1].body["searches"][0]["params"]["exact"]
    assert send(workspace, fake).up_to_date


def test_graphs_of_the_server_get_as_many_candidates_as_they_need(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_check, "_steps", lambda spec, name, count: iter([512, 1024, 2048, SCAN]))
    fake.misses = 1000
    report = send(workspace, fake)
    with open_served(workspace, place(fake)) as served:
        assert served.index.spec.efs["aligned"] == 1024
        served.index.top("aligned", [0.3, -1.0, 0.5, 2.0], 5)
    assert fake.of(f"{report.collection}/points/query")[-1].body["searches"][0]["params"]["hnsw_ef"] == 1024


def test_collections_of_an_earlier_version_are_read(workspace: Workspace, fake: FakeQdrant) -> None:
    report = send(workspace, fake)
    stored = fake.client.get_collection(report.collection).config.metadata[KEY]
    assert "efs" not in stored["spec"]
    del stored["efs"]
    fake.client.update_collection(report.collection, metadata={KEY: stored})
    assert asked(workspace, fake) == 1
    assert send(workspace, fake).up_to_date


def points(fake: FakeQdrant, collection: str) -> list[models.Record]:
    return fake.client.scroll(collection, limit=1000, with_payload=True, with_vectors=True)[0]


def test_workers_send_what_one_process_does_though_one_is_killed(
    workspace: Workspace, fake: FakeQdrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_push, "SHARD", 16)
    alone = send(workspace, fake)
    with fake_qdrant() as other:
        report = push(workspace, settings(other), runner=Killing(ProcessRunner(2), tmp_path))
        assert (report.collection, report.sent) == (alone.collection, alone.sent)
        assert points(other, "molar") == points(fake, "molar")
        assert asked(workspace, other) == 1
    assert not (workspace.root / "push" / "sent").exists()


def test_after_an_interruption_workers_send_what_is_missing(
    workspace: Workspace, fake: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_push, "SHARD", 16)
    with pytest.raises(KeyboardInterrupt):
        push(workspace, settings(fake, users="server"), runner=Stopping(1))
    assert target(Connection(fake.client, place(fake)), "molar") is None
    report = push(workspace, settings(fake, users="server"), runner=Stopping(0))
    assert report.sent == N - 16 + (report.users or 0)
    assert asked(workspace, fake, users="server") == 1
