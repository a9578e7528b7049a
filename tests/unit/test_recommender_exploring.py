"""New items tried in the answers of a trained shop: by every way of searching alike, with the shop's own settings."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import molar
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.filters import Not, OneOf
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOME = ExplorationSettings(slots=3, prior_strength=8)


@pytest.fixture(scope="module", params=["exact", "edge"])
def recommender(request, trained, tmp_path_factory):
    with published(trained, tmp_path_factory.mktemp("exploring"), SOME, request.param) as opened:
        opened.now = DAY
        yield opened


def published(trained, folder: Path, settings: ExplorationSettings, backend: str = "exact") -> Recommender:
    workspace = Workspace.for_catalogue(folder / ".molar", trained.shop)
    own = Workspace.open(trained.workspace)
    for kind in ("catalogue", "interactions", "content", "als", "alignment"):
        (workspace.root / kind).symlink_to(own.root / kind)
    publish_generation(workspace, IndexSettings(backend=backend), exploration_settings=settings).close()
    return Recommender.open(workspace.root)


def people(recommender: Recommender) -> list[str]:
    users = recommender.generation.users
    return [user.user_id for user in users.between(0, len(users)) if len(user.history)]


def told(answer):
    return [(item.item_id, item.propensity and round(item.propensity, 4)) for item in answer.items]


def test_both_ways_of_searching_try_the_same_items(recommender, monkeypatch):
    tried = 0
    for user in people(recommender)[::9]:
        monkeypatch.undo()
        first = recommender.query(user, k=10)
        filtered = recommender.query(user, k=10, where=Not(OneOf("item_id", ("nothing",))))
        monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
        searched = recommender.query(user, k=10)
        assert told(first) == told(searched) == told(filtered)
        assert [i.score for i in searched.items] == pytest.approx([i.score for i in first.items], abs=1e-4)
        tried += sum("cold_start" in item.parts for item in first.items)
        assert [item.propensity for item in first.items[:7]] == [1.0] * 7
        for item in first.items:
            assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
    assert tried == 3 * len(people(recommender)[::9])


def test_what_is_not_explored_is_what_validation_chose(recommender, trained):
    with Recommender.open(trained.workspace) as plain:
        for user in people(recommender)[::9]:
            chosen, without = (one.query(user, k=10, explore=False) for one in (plain, recommender))
            assert told(chosen) == told(without)
            assert {item.propensity for item in without.items} == {1.0}
            known = [item.item_id for item in without.items if "cold_start" not in item.parts]
            assert [item.item_id for item in recommender.query(user, k=10).items][:7] == known[:7]


def test_a_list_is_the_same_for_a_day_and_alone_or_among_many(recommender):
    users = recommender.generation.users
    some = [user for user in users.between(0, 40) if len(user.history)]
    many = [[placed.row for placed in one.places] for one in recommender.rank_many(some, Query(k=10))]
    for user, rows in zip(some, many, strict=True):
        alone = recommender.query(user.user_id, k=10)
        assert [recommender.generation.table.item_id(row) for row in rows] == [item.item_id for item in alone.items]
    recommender.now = datetime(2026, 3, 1, 23, tzinfo=UTC)
    same = [told(recommender.query(user.user_id, k=10)) for user in some]
    recommender.now = datetime(2026, 3, 2, tzinfo=UTC)
    later = [told(recommender.query(user.user_id, k=10)) for user in some]
    recommender.now = DAY
    assert same == [told(recommender.query(user.user_id, k=10)) for user in some]
    assert sum(a != b for a, b in zip(same, later, strict=True)) > len(some) / 2


def test_propensities_are_not_told_where_rules_shape_what_was_drawn(recommender):
    (user, *_) = people(recommender)
    assert {item.propensity for item in recommender.query(user, k=10, diversity=0.3).items} == {None}
    assert {item.propensity for item in recommender.query(user, k=10, diversity=0.3, explore=False).items} == {1.0}
    assert {item.propensity for item in recommender.query(user, k=25).items[10:]} == {None}


def test_every_new_item_has_its_chance_and_it_falls_with_its_sales(trained, tmp_path):
    with published(trained, tmp_path, ExplorationSettings(slots=2, prior_strength=8, temperature=1000)) as recommender:
        some, shown = people(recommender), Counter[str]()
        for day in range(1, 11):
            recommender.now = datetime(2026, 4, day, tzinfo=UTC)
            for user in some:
                shown.update(item.item_id for item in recommender.query(user, k=10).items if "cold_start" in item.parts)
        table = recommender.generation.table
        sold = np.zeros(trained.items, int)
        for user in recommender.generation.users.between(0, len(recommender.generation.users)):
            np.add.at(sold, np.asarray(user.history), 1)
    lists = 10 * len(some)
    tried = np.array([shown[table.item_id(row)] for row in range(trained.items)]) / lists
    chance = np.clip(8 / (sold + 8) * (1 - sold / 32), 0, None)
    assert (tried[chance == 0] == 0).all()
    assert (tried[sold == 0] > 0).all()
    assert tried.sum() == pytest.approx(2)
    # Where all fit alike, exposure is in proportion to the chance; items that stand higher by themselves are not drawn.
    fresh = tried[sold == 0].mean()
    for low, high in ((4, 12), (12, 20), (20, 32)):
        group = (sold >= low) & (sold < high)
        assert tried[group].mean() < 1.4 * fresh * chance[group].mean()


def test_settings_say_how_many_are_tried(trained, tmp_path):
    for number, (settings, slots) in enumerate([
        (ExplorationSettings(explore=False), None),
        (ExplorationSettings(slots=0), None),
        (ExplorationSettings(), 1),
        (ExplorationSettings(slots=4), 4),
    ]):  # fmt: skip
        (folder := tmp_path / str(number)).mkdir()
        with published(trained, folder, settings) as recommender:
            plan, chosen = recommender.generation.exploration, len(recommender.generation.slots)
            assert (plan is None) == (not settings.explore)
            wanted = chosen if slots is None else max(slots, chosen)
            user = people(recommender)[0]
            assert sum("cold_start" in item.parts for item in recommender.query(user, k=10).items) == wanted
            facts = recommender.generation.manifest.facts["exploration"]
            if facts is not None:
                assert len(facts["slots"]) == wanted


@pytest.mark.slow
def test_a_small_shop_shows_what_never_sold_and_what_sold_three_times(tmp_path):
    made = molar.demo(tmp_path / "small", items=80, users=100)
    path = made.facts.folder / "interactions.parquet"
    log = pq.read_table(path)
    items = np.array(log["item_id"].to_pylist())
    names, counts = np.unique(items, return_counts=True)
    few, none = (names[np.argsort(-counts)][start:20:2] for start in (0, 1))
    keep = ~np.isin(items, none)
    for name in few:
        keep[np.flatnonzero(items == name)[3:]] = False
    pq.write_table(log.filter(pa.array(keep)), path)
    made.shop.embed()
    made.shop.align(preset="instant")
    seen, tried = Counter[str](), 0
    with Recommender.open(made.shop.workspace) as recommender:
        some = people(recommender)
        for day in range(1, 8):
            recommender.now = datetime(2026, 5, day, tzinfo=UTC)
            for user in some:
                answer = recommender.query(user, k=10)
                seen.update(item.item_id for item in answer.items)
                tried += any("cold_start" in item.parts for item in answer.items)
    assert tried == 7 * len(some)
    for group in (none, few):
        assert np.mean([seen[name] > 0 for name in group]) >= 0.8
    assert 0.2 < sum(seen[name] for name in few) / sum(seen[name] for name in none) < 1.5
