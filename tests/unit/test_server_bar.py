"""What is told while a server builds its graphs: how many vectors are in them, which only ever grows, up to all."""

from types import SimpleNamespace
from typing import Any

import pytest

from molar_indexes.server import push
from molar_indexes.server.client import Connection, ServerError
from molar_indexes.server.config import ServerConfig
from molar_retrieval.ranking.index_protocol import IndexSpec

SPEC = IndexSpec({"aligned": 4, "content": 3, "whitened": 4}, sparse=("item_item",))
HAVING = {"aligned": 900, "content": 1000, "whitened": 900}


class Bar:
    """A progress of which everything is kept."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, task: str, total: int | None) -> None:
        self.told.append((task, total))

    def advance(self, n: int = 1) -> None:
        self.told.append(n)

    def note(self, message: str) -> None:
        self.told.append(message)

    def finish(self) -> None:
        self.told.append("done")


def _connection(states: list[tuple[str, int | None]]) -> Connection:
    """A server whose collection is in one state after the other, by status and number of vectors in graphs."""

    def get_collection(name: str) -> Any:
        status, indexed = states.pop(0)
        state = SimpleNamespace(value=status)
        return SimpleNamespace(
            status=state, indexed_vectors_count=indexed, segments_count=2, optimizer_status="planted"
        )

    def count(name: str, count_filter: Any, exact: bool) -> Any:
        return SimpleNamespace(count=HAVING[count_filter.must[0].has_vector])

    client: Any = SimpleNamespace(get_collection=get_collection, count=count, update_collection=lambda *_, **__: True)
    return Connection(client, ServerConfig("http://nowhere:1"))


@pytest.mark.parametrize(
    ("counts", "steps"),
    [
        ([500, 500, 1200, 2400, 2400, 2400], [0, 700, 1200, 0, 0, 0]),  # sparse vectors count from the beginning
        ([0, 800, 300, 1500, 1500], [800, 0, 700, 0, 400]),  # segments that are merged leave the count; some get none
        ([None, 5000, 5000, 5000], [1900, 0, 0, 0]),
    ],
)
def test_the_bar_is_of_vectors_in_graphs(
    counts: list[int | None], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "POLL", 0.001)
    last = len(counts) - push.SETTLED
    bar = Bar()
    states = [("yellow" if place < last else "green", count) for place, count in enumerate(counts)]
    push.build_graphs(_connection(states), "molar-1", SPEC, bar)
    assert bar.told == [("vectors into graphs on the server", 1900), *steps, "done"]
    assert sum(steps) == 1900


def test_a_collection_that_turns_red_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "POLL", 0.001)
    with pytest.raises(ServerError, match="is red: planted"):
        push.build_graphs(_connection([("green", 0), ("yellow", 10), ("red", 10)]), "molar-1", SPEC, Bar())
