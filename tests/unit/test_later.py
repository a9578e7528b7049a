"""An index that is opened when it is first asked answers as one that was open before."""

import numpy as np
import pytest

from molar_indexes import batch
from molar_indexes.batch import LaterIndex, open_when_asked, recommend
from molar_indexes.generations import open_generation, open_own_index
from molar_retrieval import columns
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ranking.filters import Equals
from molar_retrieval.ranking.index_protocol import SCAN, IndexSpec, Search
from molar_retrieval.workspace.artefacts import Workspace


@pytest.fixture
def opened(monkeypatch):
    """Folders of the indexes that were opened later."""
    folders = []

    def counted(folder, backend, spec):
        folders.append(folder)
        return open_own_index(folder, backend, spec)

    monkeypatch.setattr(batch, "open_own_index", counted)
    return folders


def test_it_answers_as_the_index_that_it_opens_once(trained, opened):
    workspace = Workspace.open(trained.workspace)
    with open_generation(workspace) as first, open_generation(workspace, indexed=open_when_asked) as second:
        here, there = first.index, second.index
        assert (second.spec, opened) == (first.spec, [])
        assert len(there) == len(here)
        assert there.graphs == here.graphs
        vector = np.random.default_rng(0).normal(size=here.spec.dims[columns.CONTENT]).tolist()
        where = Equals("category", here.fetch([3])[0].payload["category"])
        assert there.top(columns.CONTENT, vector, 5, exclude=[1]) == here.top(columns.CONTENT, vector, 5, exclude=[1])
        searches = [Search(columns.CONTENT, vector, 3)]
        assert there.tops(searches, where=where) == here.tops(searches, where=where)
        assert there.fetch([5, 2]) == here.fetch([5, 2])
        names = [here.fetch([7])[0].item_id, "none"]
        assert there.rows(names) == here.rows(names) == [7, None]
        efs = {columns.CONTENT: SCAN}
        exact, same = there.searching(efs), here.searching(efs)
        assert (exact.spec, exact.graphs) == (same.spec, same.graphs)
        assert exact.top(columns.CONTENT, vector, 5) == same.top(columns.CONTENT, vector, 5)
        assert opened == [second.folder]


def test_lists_by_scans_do_without(trained, opened, tmp_path):
    assert recommend(trained.workspace, tmp_path / "lists.parquet").users
    assert opened == []
    assert recommend(trained.workspace, tmp_path / "few.parquet", users=[trained.user], where="price > 0").users
    assert len(opened) == 1


def test_an_error_of_opening_comes_up_at_the_first_question():
    def damaged():
        raise StaleArtefactError("it cannot be opened", "publish another one")

    index = LaterIndex(IndexSpec({columns.CONTENT: 2}), damaged)
    assert index.spec.dims == {columns.CONTENT: 2}
    with pytest.raises(StaleArtefactError, match="it cannot be opened"):
        index.rows(["a"])
    index.close()
