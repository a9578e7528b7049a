"""Why somebody is not shown an item."""

import pytest
from copies import copy_workspace

from molar_indexes.inspection import item_for_person
from molar_indexes.recommender import Recommender


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    return copy_workspace(trained.workspace, tmp_path_factory.mktemp("absence") / ".molar")


@pytest.fixture(scope="module")
def recommender(workspace):
    with Recommender.open(workspace) as opened:
        yield opened


def test_what_is_listed_is_at_its_place(recommender, trained):
    shown = recommender.query(trained.user, k=10, explore=False)
    for item in (shown.items[0], shown.items[9]):
        found = item_for_person(recommender, item.item_id, trained.user)
        assert (found.listed, found.known, found.had) == (item.rank, True, False)


def test_what_is_behind_has_its_place_and_the_score_it_lacks(recommender, trained):
    longer = recommender.query(trained.user, k=60, explore=False, rules=False)
    item = longer.items[49]
    found = item_for_person(recommender, item.item_id, trained.user)
    assert found.listed is None
    assert found.by_score.place == found.with_rules.place == 50
    assert found.by_score.score == pytest.approx(sum(found.by_score.parts.values()), abs=1e-4)
    assert found.last is not None
    assert found.last.rank_by_score <= 10
    assert ("cold_start" in found.last.parts) == found.standing.cold_start
    assert found.last.score > found.by_score.score


def test_what_they_have_is_hidden_for_that(recommender, trained):
    record = recommender.generation.users.get(trained.user)
    (item,) = recommender.generation.index.fetch([int(record.history[-1])])
    found = item_for_person(recommender, item.item_id, trained.user)
    assert (found.had, found.listed) == (True, None)


def test_a_rule_that_keeps_it_out_is_told_apart_from_its_score(workspace, recommender, trained):
    item = recommender.query(trained.user, k=10, explore=False).items[2]
    rules = workspace.parent / "own.toml"
    rules.write_text(f'[[rule]]\nname = "not this one"\nban = ["{item.item_id}"]\n', "utf-8")
    with Recommender.open(workspace, rules=rules) as ruled:
        found = item_for_person(ruled, item.item_id, trained.user)
    assert found.by_score.place is not None
    assert found.by_score.place <= 10
    assert (found.listed, found.with_rules.place) == (None, None)
    assert [one.kind for one in found.standing.obstacles] == ["rule"]


def test_whoever_is_unknown_sees_what_most_people_took(recommender):
    popular = recommender.popular(k=10)
    found = item_for_person(recommender, popular.items[0].item_id, "nobody")
    assert (found.known, found.listed, found.had) == (False, 1, False)


def test_an_item_that_is_not_there(recommender, trained):
    found = item_for_person(recommender, "NO-SUCH", trained.user)
    assert (found.standing, found.listed, found.by_score.score) == (None, None, None)
