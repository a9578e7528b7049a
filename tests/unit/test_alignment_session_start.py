"""Whoever comes back is asked about by weights of their own: visits by hand, what is chosen, lists at both moments."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alignment_tasks import cases_of
from eval_model_tasks import log_of

from molar_eval.models.ours import MolarScorer
from molar_indexes.batch import recommend
from molar_indexes.comparison import Compared, lists_by
from molar_indexes.inspection import origins_of
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.embedding import embed
from molar_retrieval.models import objectives
from molar_retrieval.models.alignment import align
from molar_retrieval.models.als import open_log
from molar_retrieval.models.blending import EnsembleWeights
from molar_retrieval.models.objectives import FEWEST, better, comes_back, session_starts, visit_began
from molar_retrieval.models.store import open_model
from molar_retrieval.ranking.objectives import NEXT_ITEM, SESSION_START, VISIT
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, EmbedSettings, IndexSettings, MolarSettings

HOUR, DAY = 3600, 86_400
GROUPS, EACH, PEOPLE, START = 4, 6, 240, 18_000 * DAY
OWN = GROUPS * EACH
N = OWN + EACH


def asked(times, at):
    """Who did things at these hours, and is asked about at others."""
    log = log_of([range(len(own)) for own in times], 9, [int(hour * HOUR) for own in times for hour in own])
    return replace(log, asked_at=np.array([int(hour * HOUR) for hour in at]))


def test_who_comes_back_did_nothing_for_half_an_hour():
    log = asked([[1, 2], [1, 2], [1, 2], [], [0]], [2.49, 2.5, 90, 7, 90])
    assert comes_back(log).tolist() == [False, True, True, False, False], "a time of 0 is not known"
    assert not comes_back(replace(log, asked_at=None)).any()
    assert VISIT == HOUR / 2


def test_a_visit_began_with_the_first_thing_after_a_longer_pause():
    log = asked([[1, 9, 9.4, 9.8], [1, 9], [1, 1.2], [5, 50, 50], []], [10, 30, 1.3, 50, 4])
    begins, when = visit_began(log, log.asked_at)
    assert (begins - log.offsets[:-1]).tolist() == [1, 2, 0, 1, 0]
    assert (when / HOUR).tolist() == [9, 30, 1, 50, 4]


def test_arrivals_are_the_cases_as_of_the_beginning_of_their_visit():
    histories = [[0, 1, 2, 3], [4, 5], [6, 7], [8, 1]]
    hours = [1, 9, 9.4, 9.8, 1, 9, 2, 2.2, 3, 40]
    cases = cases_of(histories, [7, 8, 0, 5], 9, times=np.array([10, 30, 2.3, 40]) * HOUR)
    log = replace(cases.log, timestamp=np.array([int(hour * HOUR) for hour in hours]))
    found = session_starts(replace(cases, log=log))
    assert found.users.tolist() == [0, 1, 3], "nothing is known before a first visit"
    assert found.targets.tolist() == [7, 8, 5]
    told = found.histories()
    assert [told.history(row).tolist() for row in range(3)] == [[0], [4, 5], [8]]
    assert (told.asked_at / HOUR).tolist() == [9, 30, 40]
    hidden = [np.flatnonzero(row).tolist() for row in found.hidden(slice(0, 3))]
    assert hidden == [[0, 1, 2, 3], [4, 5], [1, 8]], "the rest of the visit was trained on, and is no answer"


def test_arrivals_of_many_cases_are_drawn(monkeypatch):
    cases = cases_of([[user % 5, 5] for user in range(40)], [6] * 40, 9, times=[90 * HOUR] * 40)
    monkeypatch.setattr(objectives, "_MOST_STARTS", 12)
    one, two, other = (session_starts(cases, seed) for seed in (0, 0, 1))
    assert len(one) == 12
    assert one.users.tolist() == two.users.tolist() != other.users.tolist()


def test_without_times_nobody_comes_back():
    cases = cases_of([[1, 2, 3]] * 4, [5] * 4, 9)
    without = replace(cases, log=replace(cases.log, timestamp=np.zeros(12, np.int64)))
    assert len(session_starts(without)) == 0


def test_weights_are_taken_where_they_find_more_than_chance_explains():
    fusion = EnsembleWeights({"a": 1.0}, {"a": 1.0}, np.zeros(0, np.int64), {"a": np.full(200, 3)}, {})
    random = np.random.default_rng(0)
    level = random.integers(1, 30, 200)
    assert better(fusion, level, level) is None
    assert better(fusion, random.permutation(level), level) is None
    found = better(fusion, np.maximum(1, level - 3), level)
    assert found is not None
    assert found.weights == {"a": 1.0}
    assert found.report["cases"] == 200
    assert found.report["scores"]["aligned"]["ndcg@10"] > found.report["scores"]["next_item"]["ndcg@10"]
    assert set(found.report["scores"]) == {"a", "next_item", "aligned"}


def bought():
    """Visits weeks apart begin with what suits a person's taste, and end with what goes with it and tells no taste."""
    random, rows = np.random.default_rng(0), []
    for user in range(PEOPLE):
        own = random.permutation(np.arange(user % GROUPS, OWN, GROUPS))
        for visit in range(3 + user % 3):
            when = START + (user % 25 + 25 * visit) * DAY
            beside = OWN + own[visit] // GROUPS
            rows += [(f"u{user}", f"i{own[visit]}", when), (f"u{user}", f"i{beside}", when + 60)]
    names, items, times = zip(*rows, strict=True)
    return pa.table({"user_id": names, "item_id": items, "timestamp": times})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session_start") / "shop"
    folder.mkdir()
    ids = [f"i{n}" for n in range(N)]
    pq.write_table(pa.table({"item_id": ids, "title": [f"thing {n}" for n in range(N)]}), folder / "items.parquet")
    vectors = np.random.default_rng(1).normal(size=(N, 8)).astype(np.float32)
    table = pa.table({"item_id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "vectors.parquet")
    pq.write_table(bought(), folder / "interactions.parquet")
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    embed(workspace, EmbedSettings(), vectors=folder / "vectors.parquet")
    report = align(workspace, MolarSettings(align=AlignSettings(preset="instant", threads=1)))
    publish_generation(workspace, IndexSettings())
    return SimpleNamespace(
        workspace=workspace, facts=report.facts, model=open_model(report.folder), log=open_log(workspace)
    )


def test_the_item_before_counts_within_a_visit_and_taste_when_somebody_comes_back(shop):
    told = shop.facts["session_start"]
    assert told["cases"] >= FEWEST
    assert told["scores"]["aligned"]["ndcg@10"] > told["scores"]["next_item"]["ndcg@10"] + 0.02
    within, back = (shop.model.weights_for(objective) for objective in (NEXT_ITEM, SESSION_START))
    assert within["sequential"] * back["ease"] > back["sequential"] * within["ease"]


def last_of(shop, user):
    row = shop.log.users.row(user)
    return int(shop.log.timestamp[shop.log.offsets[row + 1] - 1])


def wanted(shop, user, objective):
    row = np.array([shop.log.users.row(user)])
    one = replace(shop.log.of_users(row), asked_at=None)
    scores = shop.model.seeing(shop.log).scores(one, objective)[0]
    scores[one.item] = -np.inf
    best = np.argsort(-scores, kind="stable")[:5]
    return [f"i{item}" for item in best], scores[best]


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("minutes", "objective"), [(1, NEXT_ITEM), (29, NEXT_ITEM), (31, SESSION_START), (9000, SESSION_START)]
)
def test_the_moment_of_a_question_decides(shop, minutes, objective):
    differ = 0
    with Recommender.open(shop.workspace.root) as recommender:
        for user in ("u3", "u8", "u77"):
            recommender.now = at(last_of(shop, user) + 60 * minutes)
            answer = recommender.query(user, k=5, explore=False)
            ids, scores = wanted(shop, user, objective)
            assert [item.item_id for item in answer.items] == ids
            assert [item.score for item in answer.items] == pytest.approx(scores.tolist(), abs=1e-4)
            assert answer.objective is None
            differ += ids != wanted(shop, user, SESSION_START if objective == NEXT_ITEM else NEXT_ITEM)[0]
            (told,) = origins_of(recommender, user, ids[:1])
            assert sum(told.parts.values()) == pytest.approx(float(scores[0]), abs=1e-3)
    assert differ


@pytest.mark.parametrize(
    ("context", "minutes", "objective"), [("in_session", 9000, NEXT_ITEM), ("session_start", 1, SESSION_START)]
)
def test_a_context_that_is_named_decides_instead(shop, tmp_path, context, minutes, objective):
    users, query = ["u3", "u8", "u77"], Query(k=5, explore=False, context=context)
    lists = {user: wanted(shop, user, objective)[0] for user in users}
    with Recommender.open(shop.workspace.root) as recommender:
        for user in users:
            recommender.now = at(last_of(shop, user) + 60 * minutes)
            assert [item.item_id for item in recommender.query(user, query).items] == lists[user]
    recommend(shop.workspace.root, tmp_path / "lists.parquet", query, users=users)
    found = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    assert {user: [row["item_id"] for row in found if row["user_id"] == user] for user in users} == lists


def test_as_of_decides_as_the_moment_of_then_did(shop):
    with Recommender.open(shop.workspace.root) as recommender:
        for minutes, objective in ((1, NEXT_ITEM), (31, SESSION_START)):
            answer = recommender.query("u8", k=5, explore=False, as_of=at(last_of(shop, "u8") + 60 * minutes))
            assert [item.item_id for item in answer.items] == wanted(shop, "u8", objective)[0]


def test_a_session_of_items_alone_is_a_visit(shop):
    with Recommender.open(shop.workspace.root) as recommender:
        answer = recommender.query(session=["i3", "i24"], k=5, explore=False)
        recommender.now = at(0)
        assert recommender.query(session=["i3", "i24"], k=5, explore=False).items == answer.items


def test_many_at_once_are_each_asked_about_as_alone(shop):
    with Recommender.open(shop.workspace.root) as recommender:
        users = [one for one in recommender.generation.users.between(0, 40) if len(one.history)]
        now = at(sorted(int(one.times[-1]) for one in users)[20] + 60)
        recommender.now = now
        within = [now.timestamp() - one.times[-1] < VISIT for one in users]
        assert 0 < sum(within) < len(users)
        query = Query(k=5, explore=False)
        alone = [[item.item_id for item in recommender.query(one.user_id, k=5, explore=False).items] for one in users]
        rows = recommender.generation.index.rows([f"i{n}" for n in range(N)])
        with recommender.answering() as answerer:
            names = {row: f"i{n}" for n, row in enumerate(rows)}
            lists = list(answerer.rank_many(users, query, now))
            assert [[names[row] for row in one.rows[:5].tolist()] for one in lists] == alone
            parts = list(answerer.parts_of(users, [[rows[int(i[1:])] for i in own] for own in alone], query, now))
            for one, told, own in zip(lists, parts, alone, strict=True):
                scores = [place.score for place in one.listing().places]
                assert [sum(told[rows[int(i[1:])]].values()) for i in own] == pytest.approx(scores, abs=1e-6)
            keys, known = [one.user_id for one in users], Compared()
            for moment in (now, at(now.timestamp() + DAY), now):  # what is remembered of one moment is not of another
                recommender.now = moment
                (found,) = lists_by([answerer], keys, moment, known)
                for key in keys[:12]:
                    again = recommender.query(key, k=10, explore=False)
                    assert [item.item_id for item in found[key].items] == [item.item_id for item in again.items]


def test_an_evaluation_asks_about_each_case_by_its_moment(shop):
    model, rows = shop.model.seeing(shop.log), np.arange(30)
    last = shop.log.timestamp[shop.log.offsets[rows + 1] - 1]
    inputs = replace(shop.log.of_users(rows), asked_at=last + np.where(rows % 3 == 0, DAY, 60))
    scorer = MolarScorer(model, shop.workspace, {})
    within, back = (model.scores(inputs, objective) for objective in (NEXT_ITEM, SESSION_START))
    expected = np.where((rows % 3 == 0)[:, None], back, within)
    assert scorer.scores(inputs) == pytest.approx(expected, abs=1e-5)
    assert not np.allclose(within, back)
