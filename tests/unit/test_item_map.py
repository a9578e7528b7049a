"""Two maps of items, and where content and behaviour disagree; planted faults are found, and little else."""

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from copies import copy_workspace
from scipy.sparse import csr_matrix

from molar_indexes.generations import open_generation
from molar_indexes.item_map import store
from molar_indexes.item_map import store as item_map_store
from molar_indexes.item_map.outliers import Categories, Disagreement, ImpressionCounts, agreements, judged
from molar_indexes.item_map.store import item_map, make_item_map
from molar_indexes.item_map.views import Views
from molar_retrieval.encoders.base import unit
from molar_retrieval.errors import DataError
from molar_retrieval.workspace.artefacts import Workspace

N, GROUPS, PEOPLE = 600, 12, 900
GROUP = np.arange(N) % GROUPS
CATEGORY = [f"kind {number}" for number in GROUP]


@lru_cache(maxsize=1)
def shop() -> Views:
    """Items in groups: words and photos tell the group, and what they have in common; people like a few groups."""
    random = np.random.default_rng(0)
    middle, own = random.normal(size=(2, GROUPS, 24)), random.normal(size=(2, 8, 24)) / 3
    detail = random.normal(size=(N, 8))
    text, image = (
        unit((middle[side][GROUP] + detail @ own[side] + 0.5 * random.normal(size=(N, 24))).astype(np.float32))
        for side in range(2)
    )
    popular = random.lognormal(0, 0.7, N)
    taken = np.zeros((PEOPLE, N), np.float32)
    for person in range(PEOPLE):
        weights = popular * np.where(np.isin(GROUP, random.choice(GROUPS, 2, replace=False)), 12, 1)
        chosen = random.choice(N, 18, replace=False, p=weights / weights.sum())
        taken[person, chosen] = 1
    takes = taken.sum(axis=0).astype(np.int64)
    content = unit(np.concatenate([text, image], axis=1))
    since = np.full(N, 100, np.int64)
    return Views(np.arange(N), {"text": text, "image": image}, content, csr_matrix(taken), takes, since, 1_000)


def with_photos(views: Views, order: np.ndarray) -> Views:
    """The same items with each other's photos."""
    image = views.sources["image"][order]
    content = unit(np.concatenate([views.sources["text"], image], axis=1))
    return replace(views, sources={"text": views.sources["text"], "image": image}, content=content)


def rows_of(found: tuple[Disagreement, ...], kind: str) -> set[int]:
    return {one.row for one in found if one.kind == kind}


def test_an_orderly_shop_has_few_disagreements():
    found = judged(shop(), {"kind": CATEGORY}).found
    assert rows_of(found, "photo") == rows_of(found, "category") == set()
    assert len(rows_of(found, "apart")) <= N // 100


def test_wrong_photos_are_found_and_little_else():
    random = np.random.default_rng(1)
    chosen = random.choice(N, 24, replace=False)
    order = np.arange(N)
    order[chosen] = np.roll(chosen, 1)
    found = rows_of(judged(with_photos(shop(), order), {"kind": CATEGORY}).found, "photo")
    right = len(found & set(chosen.tolist()))
    assert right >= 0.8 * len(chosen)
    assert right >= 0.7 * len(found)


def test_wrong_categories_are_found_and_nothing_else():
    random = np.random.default_rng(2)
    chosen = random.choice(N, 24, replace=False).tolist()
    said = list(CATEGORY)
    for row in chosen:
        said[row] = f"kind {(GROUP[row] + 1 + random.integers(GROUPS - 1)) % GROUPS}"
    found = [one for one in judged(shop(), {"kind": said}).found if one.kind == "category"]
    rows = {one.row for one in found}
    assert rows <= set(chosen)
    assert len(rows) >= 0.8 * len(chosen)
    told = found[0].evidence[0]
    assert told.name == "category.alike"
    assert told.numbers["other"] == CATEGORY[found[0].row]
    assert told.numbers["own"] == said[found[0].row]
    assert told.numbers["votes"] > told.numbers["own_votes"]


def test_items_that_are_taken_with_what_is_unlike_them_are_apart():
    """Two groups exchange whom they are taken by, in ten items each: content says one thing, people the other."""
    views, taken = shop(), shop().taken.toarray()
    left, right = np.flatnonzero(GROUP == 0)[:10], np.flatnonzero(GROUP == 1)[:10]
    taken[:, np.concatenate([left, right])] = taken[:, np.concatenate([right, left])]
    takes = taken.sum(axis=0).astype(np.int64)
    found = judged(replace(views, taken=csr_matrix(taken), takes=takes), {}).found
    apart, planted = rows_of(found, "apart"), set(left.tolist()) | set(right.tolist())
    assert len(apart & planted) >= 9
    assert len(apart - planted) <= N // 100
    told = next(one for one in found if one.kind == "apart").evidence[0].numbers
    assert told["share"] < told["usual"]


def test_of_what_few_people_took_nothing_is_said():
    views, taken = shop(), shop().taken.toarray()
    taken[4:, :50] = 0
    found = agreements(replace(views, taken=csr_matrix(taken)), views.alike(30))
    assert not found.known[:50].any()
    assert found.known.mean() > 0.5
    assert (found.error[:50][found.people[:50] > 0].min()) > np.median(found.error[50:])


def test_where_people_choose_by_chance_nothing_is_said():
    random = np.random.default_rng(3)
    taken = csr_matrix((random.random((PEOPLE, N)) < 0.03).astype(np.float32))
    views = replace(shop(), taken=taken, takes=np.asarray(taken.sum(axis=0)).ravel().astype(np.int64))
    assert not rows_of(judged(views, {}).found, "apart")


def test_what_sells_far_below_its_like_is_hidden_unless_it_was_shown():
    takes = shop().takes.copy()
    takes[GROUP == 0], takes[0] = 400, 1
    views = replace(shop(), takes=takes)
    assert 0 in rows_of(judged(views, {}).found, "hidden")
    often = ImpressionCounts(np.full(N, 500), np.full(N, 10))
    assert 0 not in rows_of(judged(views, {}, often).found, "hidden")
    often.shown[0] = 3
    (one,) = [one for one in judged(views, {}, often).found if one.row == 0 and one.kind == "hidden"]
    assert [told.name for told in one.evidence] == ["hidden.takes", "hidden.shown"]
    new = replace(views, since=np.where(np.arange(N) == 0, 980, views.since))
    assert 0 not in rows_of(judged(new, {}).found, "hidden")


def test_what_is_wanted_but_hardly_shown_is_hidden():
    exposure = ImpressionCounts(np.full(N, 1_000), np.full(N, 20))
    exposure.shown[7], exposure.taken[7] = 60, 20
    found = judged(shop(), {}, exposure).found
    assert rows_of(found, "hidden") == {7}
    (told, shown) = next(one for one in found if one.row == 7).evidence
    assert told.name == "hidden.rate"
    assert told.numbers["rate"] == pytest.approx(1 / 3)
    assert shown.numbers == {"shown": 60, "others": 1_000.0}


def test_the_field_that_groups_the_items_is_found():
    fields = {"noise": [f"v{n % 7}" for n in range(N // 2)] * 2, "kind": CATEGORY, "id": [str(n) for n in range(N)]}
    chosen = judged(shop(), fields).categories
    assert chosen is not None
    assert chosen.field == "kind"
    lists = Categories.read("genres", [["a", "b"], [], None, "b", ["b"]])
    assert lists.names == ("a", "b")
    assert lists.first.tolist() == [1, -1, -1, 1, 1]


def test_what_pushes_items_apart_is_nearly_that_of_all_pairs():
    places = np.random.default_rng(4).normal(size=(300, 2)) * 20
    apart = places[:, None] - places[None]
    near = 1 / (1 + (apart**2).sum(axis=2))
    np.fill_diagonal(near, 0)
    wanted = (near[:, :, None] ** 2 * apart).sum(axis=1) / near.sum()
    error = np.abs(item_map_store._repulsion(places) - wanted).mean() / np.abs(wanted).mean()
    assert error < 0.2


def test_maps_keep_neighbours_and_an_item_about_where_it_was():
    views = shop()
    alike, together = views.alike(15), views.together(15)
    first = item_map_store.first_map(views.content, alike, 150)
    second = item_map_store.second_map(first, together, views.takes >= 3, 100)
    assert kept(first, alike) > 0.4
    assert kept(second, together) > 0.15
    assert np.array_equal(first, item_map_store.first_map(views.content, alike, 150))
    moved = np.linalg.norm(second - first, axis=1)
    other = np.linalg.norm(second - np.random.default_rng(0).permutation(first), axis=1)
    assert np.median(moved) < 0.6 * np.median(other)
    alone = item_map_store.second_map(first, together, np.arange(N) >= 10, 5)
    assert np.array_equal(alone[:10], first[:10])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("items", "people"), [(1, 0), (3, 0), (3, 4), (20, 0)])
def test_of_a_tiny_shop_nothing_is_said(items, people):
    random = np.random.default_rng(5)
    vectors = unit(random.normal(size=(items, 6)).astype(np.float32))
    taken, zeros = csr_matrix(np.ones((people, items), np.float32)), np.zeros(items, np.int64)
    views = Views(np.arange(items), {"text": vectors}, vectors, taken, zeros + people, zeros, 0)
    told = judged(views, {"kind": ["a", None, "b", "a"][:items] * (items // 4 or 1)})
    assert told.found == ()
    assert not told.agree.known.any()
    places = item_map_store.first_map(views.content, views.alike(15), 20)
    assert np.isfinite(item_map_store.second_map(places, views.together(15), zeros + people > 2, 20)).all()


def kept(places: np.ndarray, neighbours: np.ndarray) -> float:
    """Which share of the neighbours are so on a map."""
    far = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(far, np.inf)
    near = np.argsort(far, axis=1)[:, : neighbours.shape[1]]
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(near, neighbours, strict=True)]))


def test_a_map_is_made_beside_a_generation_and_damage_is_seen(trained, tmp_path):
    workspace = Workspace.open(copy_workspace(trained.workspace, tmp_path / "copy"))
    name = workspace["generations"].require()[0].name
    assert item_map(workspace, name) is None
    make_item_map(workspace, name)
    found = item_map(workspace, name)
    assert found is not None
    assert len(found) == found.items == len(found.places)
    assert found.field == "category"
    assert found.places.min() >= 0
    assert found.places.max() == 65_535
    path = workspace[store.KIND].root / name / "found.json"
    text = path.read_text("utf-8")
    path.write_text(json.dumps({"names": [], "found": []}).ljust(len(text)), "utf-8")
    assert item_map(workspace, name) is None
    with workspace.lock(store.KIND), pytest.raises(DataError, match="another process"):
        make_item_map(workspace, name)
    make_item_map(workspace, name)
    again = item_map(workspace, name)
    assert again is not None
    assert again.found == found.found
    assert np.array_equal(again.places, found.places)


def test_of_many_items_those_are_on_the_map_that_most_people_took(trained):
    with open_generation(Workspace.open(trained.workspace)) as generation:
        everything, some = Views.of(generation), Views.of(generation, 40)
    assert len(some) == 40
    assert some.takes.min() >= np.sort(everything.takes)[-40]
    assert some.taken.shape[1] == 40
    assert np.diff(some.taken.indptr).min() >= 2
