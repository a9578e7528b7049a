"""A generation whose items differ in attributes alone is the one that would be made anew."""

import shutil
import weakref

import numpy as np
import pytest
from updates import Days

from molar_indexes import refresh as indexes_refresh
from molar_indexes.generations import INDEX, TABLE, USERS, open_generation
from molar_indexes.refresh import publish_generation
from molar_indexes.verify import verify
from molar_retrieval.data.text_features import bm25
from molar_retrieval.errors import BackendError
from molar_retrieval.models.refresh import refresh
from molar_retrieval.ranking.filters import Between
from molar_retrieval.workspace.settings import IndexSettings
from molar_retrieval.workspace.tensors import mapped


@pytest.fixture
def days(trained, tmp_path):
    return Days(trained, tmp_path)


def another_price(days, *rows, price=1.25, **columns):
    """Some items have another price and other columns; the alignment is brought to the present."""

    def changed(table):
        table["price"] = table["price"].where(~table.index.isin(rows), price)
        return table.assign(**columns)

    days.items(changed)
    days.prepare()
    refresh(days.workspace)


def published(days, backend="edge"):
    return publish_generation(days.workspace, IndexSettings(backend=backend))


def held(generation):
    """All that a generation holds of its items and users, and of the facts that answers read."""
    index, facts = generation.index, generation.manifest.facts
    items = index.fetch(range(len(index)), vectors=[*index.spec.dims, *index.spec.sparse])
    users = [user for batch in generation.users.batches() for user in batch]
    told = {name: facts[name] for name in facts if name not in ("graphs", "restated", "exploration")}
    return items, users, list(generation.popular), told


@pytest.mark.parametrize("backend", ["edge", "exact"])
def test_it_is_the_one_that_would_be_made_anew(days, backend, monkeypatch):
    published(days, backend).close()
    another_price(days, 4, 7, stock=[0 if n == 9 else 3 for n in range(100)])
    another_price(days, 4, 8, price=2.5)
    published(days, backend).close()
    another_price(days, 4, price=3.5)
    with published(days, backend) as restated:
        assert restated.manifest.facts["restated"] == 1
        got, tensors = held(restated), mapped(restated.folder / TABLE)
        assert [row for row, _ in restated.index.top("content", got[0][4].vectors["content"], 1)] == [4]
        found = restated.index.top("content", got[0][4].vectors["content"], 9, where=Between("price", gte=3.4, lte=3.6))
        assert 4 in [row for row, _ in found]
        assert not verify(restated, days.workspace, deep=True)
        assert restated.table.unavailable(0) == {9}
    monkeypatch.setattr(indexes_refresh.Restated, "of", lambda *_: None)
    shutil.rmtree(days.workspace.root / "generations")
    with published(days, backend) as anew:
        assert "restated" not in anew.manifest.facts
        assert got == held(anew)
        assert tensors.keys() == mapped(anew.folder / TABLE).keys()
        assert all(np.array_equal(values, mapped(anew.folder / TABLE)[name]) for name, values in tensors.items())


def test_matrices_of_items_are_given_up_before_graphs(days, monkeypatch):
    made, left = [], []

    def noted(texts):
        words = bm25(texts)
        made.append(weakref.ref(words))
        return words

    monkeypatch.setattr("molar_indexes.rebuild.bm25", noted)
    monkeypatch.setattr("molar_indexes.edge.give_freed_memory_back", lambda: left.extend(own() for own in made))
    monkeypatch.setattr(indexes_refresh.Restated, "of", lambda *_: None)
    shutil.rmtree(days.workspace.root / "generations")
    published(days).close()
    assert left == [None]


def test_what_stays_is_shared(days):
    before = published(days)
    another_price(days, 4)
    with before, published(days) as after:
        assert (after.folder / USERS).samefile(before.folder / USERS)
        assert before.index.fetch([4])[0].payload["price"] != after.index.fetch([4])[0].payload["price"] == 1.25
        files = [path.relative_to(after.folder) for path in (after.folder / INDEX).rglob("*") if path.is_file()]
        assert not any(
            (before.folder / name).exists() and (before.folder / name).samefile(after.folder / name) for name in files
        )
        assert not verify(before, deep=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda days: another_price(days, *range(11)),
        lambda days: another_price(days, 4, title=[f"Item {n}" for n in range(100)]),
        lambda days: another_price(days, 4, colour="blue"),
        lambda days: (days.buy(("u0001", "SKU-0001")), another_price(days, 4)),
    ],
    ids=["many", "words", "fields", "log"],
)
def test_all_else_makes_it_anew(days, change):
    published(days).close()
    change(days)
    with published(days) as generation:
        assert "restated" not in generation.manifest.facts
        assert generation.index.fetch([4])[0].payload["price"] == 1.25


def test_few_at_a_time_are_many_in_the_end(days):
    published(days).close()
    for price in (1.5, 2.5, 3.5):
        another_price(days, 4, 5, 6, 7, price=price)
        with published(days) as generation:
            assert generation.index.fetch([7])[0].payload["price"] == price
            assert generation.manifest.facts.get("restated") == {1.5: 4, 2.5: 8}.get(price)


def test_a_payload_that_does_not_come_back_is_found(days, monkeypatch):
    with published(days) as generation:
        name = generation.name
    another_price(days, 4)
    monkeypatch.setattr("molar_indexes.edge.to_payload", lambda item_id, payload: {"item_id": item_id})
    with pytest.raises(BackendError, match="has another payload"):
        published(days)
    assert days.workspace["generations"].pointer == name
    assert not days.workspace["generations"].partials()
    with open_generation(days.workspace) as generation:
        assert not verify(generation, deep=True)
