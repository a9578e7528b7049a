"""The same questions to a recommender whose items are in the workspace, scanned exactly, or on a server.

Small catalogues are scanned from the item store, so that is switched off here: what is asked for comes from the index.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from qdrant_fake import Fault, fake_qdrant
from served import FAKE, SERVERS, SPOKEN, URL, WRITTEN

from molar_indexes.backends import build_index, open_index
from molar_indexes.batch import recommend
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.server.client import Client, Connection, connect
from molar_indexes.server.collections import remove
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import served
from molar_indexes.server.push import on_trial, publish, push
from molar_indexes.verify import verify
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.index_protocol import IndexItem
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

pytestmark = pytest.mark.slow

WHERE = "category in (Shoes, Vases) and price < 60"
RULES = """
[[rule]]
at_most = 2
per = 'category'
[[rule]]
boost = 'category = Vases'
by = 0.5
"""


@pytest.fixture(scope="module", autouse=True)
def searched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "MOST_SCANNED", 0)
        yield


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES, "utf-8")
    return path


@pytest.fixture(scope="module", params=["exact", *(kind for kind in SERVERS if kind != SPOKEN)])
def other(
    trained: Any, rules: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recommender]:
    """The same generation, its items in another index."""
    workspace = Workspace.open(trained.workspace)
    if request.param == "exact":
        with open_generation(workspace) as generation:
            spec, names = generation.spec, [*generation.spec.dims, *generation.spec.sparse]
            stored = generation.index.fetch(range(len(generation.index)), vectors=names)
        items = [IndexItem(i.row, i.item_id, i.vectors, i.payload, i.sparse) for i in stored]
        folder = tmp_path_factory.mktemp("exact")
        build_index(folder, "exact", spec, items)
        opened = open_generation(workspace, indexed=lambda *_: open_index(folder, "exact", spec))
        with Recommender(workspace, opened, rules) as recommender:
            yield recommender
        return
    settings = IndexSettings(
        url=URL or "http://in-process",
        collection="molar-test-shop",
        users="server",
        timeout=60,
        grpc_port=0 if request.param == WRITTEN else None,
    )
    server = ServerConfig.of(settings)
    assert server is not None
    connection = Connection(Client(":memory:"), server) if request.param == FAKE else connect(server)
    with open_generation(workspace) as generation:
        publish(connection, generation, settings.model_copy(update={"uploads": 1}))
    with Recommender(workspace, served(connection, workspace), rules) as recommender:
        yield recommender
        if request.param != FAKE:
            remove(connection)


@pytest.fixture(scope="module")
def mine(trained: Any, rules: Path) -> Iterator[Recommender]:
    with Recommender.open(trained.workspace, rules=rules) as opened:
        yield opened


def assert_same(one: Recommendations, another: Recommendations) -> None:
    assert [i.item_id for i in one.items] == [i.item_id for i in another.items]
    assert [i.score for i in one.items] == pytest.approx([i.score for i in another.items], abs=1e-5)
    for left, right in zip(one.items, another.items, strict=True):
        assert dict(left.parts) == pytest.approx(dict(right.parts), abs=1e-5)
        assert left.payload == right.payload
        assert left.reasons == right.reasons
        assert left.rule == right.rule
    assert one.shortfall == another.shortfall


OPTIONS: list[dict[str, Any]] = [
    {"rules": False},
    {"rules": False, "filter_seen": False},
    {"rules": False, "where": WHERE},
    {"rules": False, "where": "not category = Shoes", "filter_seen": False, "rerank": False},
    {"rules": False, "diversity": 0.7},
    {"rules": False, "diversity": 0.4, "where": WHERE, "explain": True},
    {"rules": False, "calibrate": "category"},
    {},
    {"where": "price >= 20", "diversity": 0.3, "explain": True},
    {"exclude": ["SKU-0001", "SKU-0002", "nobody"]},
    {"candidates": ["SKU-0001", "SKU-0002", "SKU-0003", "SKU-0010"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_lists(trained: Any, mine: Recommender, other: Recommender, options: dict[str, Any]) -> None:
    users = [trained.user, *(user.user_id for user in mine.generation.users.between(0, 12) if len(user.history))]
    for user in users:
        assert_same(other.query(user, k=10, **options), mine.query(user, k=10, **options))
    assert_same(other.query(trained.user, k=80, **options), mine.query(trained.user, k=80, **options))


def test_searches(trained: Any, mine: Recommender, other: Recommender) -> None:
    for one in (None, trained.user):
        assert_same(other.search("blue mug", user_id=one), mine.search("blue mug", user_id=one))
        assert_same(
            other.search("shoes", k=20, user_id=one, filter_seen=one is not None, where=WHERE),
            mine.search("shoes", k=20, user_id=one, filter_seen=one is not None, where=WHERE),
        )
    assert_same(other.similar("SKU-0001"), mine.similar("SKU-0001"))
    assert_same(other.similar("SKU-0003", where=WHERE), mine.similar("SKU-0003", where=WHERE))
    photo = next((trained.shop / "images").iterdir())
    assert_same(other.search(image=photo), mine.search(image=photo))
    nobody = {"fallback": "popular", "where": WHERE, "rules": False}
    assert_same(other.query("nobody", k=5, **nobody), mine.query("nobody", k=5, **nobody))


def test_many_at_once(mine: Recommender, other: Recommender) -> None:
    users = [user for user in mine.generation.users.between(0, 60) if len(user.history)]
    for options in ({"rules": False}, {"where": WHERE, "rules": False}, {"diversity": 0.5}):
        wanted = list(mine.rank_many(users, Query(**options)))
        found = list(other.rank_many(users, Query(**options)))
        for left, right in zip(found, wanted, strict=True):
            assert [p.row for p in left.places] == [p.row for p in right.places]
            assert [p.score for p in left.places] == pytest.approx([p.score for p in right.places], abs=1e-5)


def test_a_generation_is_whole_wherever_its_items_are(trained: Any, other: Recommender) -> None:
    assert verify(other.generation, Workspace.open(trained.workspace), deep=True) == []


def test_everybodys_lists_from_a_server(trained: Any, tmp_path: Path) -> None:
    """Two processes, by HTTP; killed in the middle, the rest comes from the workspace where that is allowed."""
    recommend(trained.workspace, tmp_path / "own.parquet", k=5, where=WHERE)
    with fake_qdrant() as fake:
        settings = IndexSettings(url=fake.url, users="server", fallback="local", timeout=30)  # cores may be busy
        push(Workspace.open(trained.workspace), settings)
        for target, processes in (("one", 1), ("two", 2)):
            server, path = ServerConfig.of(settings), tmp_path / f"{target}.parquet"
            report = recommend(trained.workspace, path, k=5, where=WHERE, server=server, processes=processes)
            assert report.notes == ()
            assert pq.read_table(path).equals(pq.read_table(tmp_path / "own.parquet"))
        assert fake.of("/query/batch$")
        fake.faults = [Fault("/(batch|scroll|points)$", after=20, times=10**6, status=500)]
        report = recommend(trained.workspace, tmp_path / "fell.parquet", k=5, where=WHERE, server=server)
        assert any("answers instead" in note for note in report.notes)
        assert pq.read_table(tmp_path / "fell.parquet").equals(pq.read_table(tmp_path / "own.parquet"))


def test_a_trial_leaves_nothing_behind(trained: Any) -> None:
    with fake_qdrant() as fake:
        settings = IndexSettings(url=fake.url, users="server", timeout=30)
        workspace = Workspace.open(trained.workspace)
        with on_trial(workspace, settings) as generation, Recommender(workspace, generation) as recommender:
            assert recommender.query(trained.user, k=3).items
            (name,) = [one.name for one in fake.client.get_collections().collections]
            assert name.startswith("molar.trial.")  # the items; people stay in the workspace
        assert fake.client.get_collections().collections == []
        assert fake.client.get_aliases().aliases == []
