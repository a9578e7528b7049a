"""Partners that are too many for the index: answers are the same, with conditions and without, and it is proved."""

from collections.abc import Iterator
from typing import Any

import pytest
from copies import copy_workspace

from molar_indexes import rebuild
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_indexes.verify import verify
from molar_retrieval import columns
from molar_retrieval.ranking import candidates
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def beside(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The trained shop, published again with its partners in the table alone."""
    workspace = Workspace.open(copy_workspace(trained.workspace, tmp_path_factory.mktemp("item_item") / ".molar"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "_MOST_PARTNERS", 0)
        with publish_generation(workspace, IndexSettings(ef=600)) as generation:
            assert generation.spec.sparse == (columns.WORDS,)
        yield workspace


@pytest.mark.parametrize("where", [None, "category in (Shoes, Vases) and price < 60", "price > 100000"])
def test_answers_are_those_of_an_index_that_holds_them(
    trained: Any, beside: Workspace, where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
    monkeypatch.setattr(candidates, "DEPTH", 12)
    with Recommender.open(Workspace.open(trained.workspace).root) as one, Recommender.open(beside.root) as other:
        people = [user.user_id for user in one.generation.users.between(0, 30)]
        for user_id in people:
            lists = [own.query(user_id, k=10, where=where, explore=False, rerank=False).items for own in (one, other)]
            assert [item.item_id for item in lists[0]] == [item.item_id for item in lists[1]]
            assert [item.score for item in lists[0]] == pytest.approx([item.score for item in lists[1]], abs=1e-5)
        neighbors = [
            item.parts.get("ease", 0.0) + item.parts.get("sequential", 0.0)
            for item in other.query(people[0], k=10, explore=False, explain=True).items
        ]
    assert any(neighbors)


def test_it_is_verified(beside: Workspace) -> None:
    with open_generation(beside) as generation:
        assert verify(generation, deep=True) == []
        assert len(generation.table.items.sparse.values)
