"""The same by gRPC: pushed, asked, rolled back; what the client's conversions make of it."""

from pathlib import Path

import pytest
from qdrant_grpc_fake import fake_both
from served import CONTAINS
from test_indexes_generations import N, release, released

from molar_indexes.generations import open_generation
from molar_indexes.server import push as server_push
from molar_indexes.server.client import connected
from molar_indexes.server.collections import published, rollback
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import open_served
from molar_indexes.server.push import push
from molar_retrieval.ranking.filters import And, Between, Contains, Equals, Exists, Not, OneOf, Or
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

CONDITIONS = [
    None,
    Equals("new", True),
    Equals("mark", 1),
    Equals("mark", 1.0),
    OneOf("brand", ("brand 0", "brand 2")),
    OneOf("mark", (1, 2)),
    Between("mark", gte=0.5, lt=2),
    Contains("brand", "and 1"),
    Exists("brand"),
    Not(Exists("none")),
    And((Not(Equals("brand", "brand 1")), Or((Equals("new", False), Equals("mark", 7))))),
    Or(()),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return released(tmp_path)


def test_by_grpc(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_push, "POLL", 0.01)
    with fake_both(CONTAINS) as fake:
        settings = IndexSettings(url=fake.url, users="server", quantisation="scalar")
        server = ServerConfig.of(settings)
        assert server is not None
        report = push(workspace, settings)
        assert (report.items, report.users, fake.client.count(report.collection).count) == (N, 40, N)
        assert {"Create", "Update", "Upsert", "CreateFieldIndex", "UpdateAliases"} <= {one.path for one in fake.asked}
        assert {one.path for one in fake.asked if one.method != "GRPC"} <= {"/cluster"}  # which gRPC does not have
        with open_generation(workspace) as own, open_served(workspace, server) as served:
            names = [*own.spec.dims, *own.spec.sparse]
            assert served.index.fetch(range(N), vectors=names) == own.index.fetch(range(N), vectors=names)
            assert served.index.rows(["item 3", "nobody"]) == [3, None]
            for where in CONDITIONS:
                for name, query in (
                    ("aligned", [1.0, -0.5, 2.0, 0.1]),
                    ("item_item", SparseVector([1, 5, N + 5], [1.0] * 3)),
                ):
                    mine, theirs = (
                        index.top(name, query, 9, exclude=[0, 2], where=where) for index in (own.index, served.index)
                    )
                    assert [row for row, _ in theirs] == [row for row, _ in mine], where
                    assert [s for _, s in theirs] == pytest.approx([s for _, s in mine], abs=1e-5)
            assert served.index.top("content", [0.0] * 3, 4, exclude=[1]) == [(0, 0.0), (2, 0.0), (3, 0.0), (4, 0.0)]
            mine, theirs = own.users.get("user 9"), served.users.get("user 9")
            assert (list(mine.vector), list(mine.history)) == (list(theirs.vector), list(theirs.history))
        release(workspace, 2).close()
        push(workspace, settings)
        with connected(server) as connection:
            assert rollback(connection).metadata.generation == report.generation
            assert len(published(connection, "molar")) == 2
