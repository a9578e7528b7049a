"""Experts are fitted as asked for, judged on the cases, and give the parts of the score."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from eval_model_tasks import log_of

from molar_retrieval.models import base
from molar_retrieval.models.base import count_models
from molar_retrieval.models.content_knn import DIM, ContentKNN, compressed
from molar_retrieval.models.popularity import DAY, HALF_LIVES, Popularity
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks
from molar_retrieval.workspace.settings import AlignSettings

N = 60
EXPERTS = ("sequential", "ease", "content_knn", "popularity")


@pytest.fixture(scope="module")
def world():
    """Everybody walks a circle of items, one a day; what comes on the last two days is asked, several cases a user."""
    random = np.random.default_rng(0)
    walks = [(random.integers(N) + np.cumsum(random.integers(1, 3, 9))) % N for _ in range(120)]
    start = random.integers(0, 300, 120)
    times = np.concatenate([DAY * (start[u] + np.arange(7)) for u in range(120)])
    log = log_of([walk[:7].tolist() for walk in walks], N, times)
    users = np.repeat(np.arange(120), 2)
    targets = np.concatenate([walk[7:] for walk in walks])
    cases = ValidationCases(log, users, targets.astype(np.int64), np.ones(N, bool), DAY * (np.repeat(start, 2) + 7))
    angle = 2 * np.pi * np.arange(N) / N
    features = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], 1).astype(np.float32)
    return log, cases, features / np.sqrt(np.float32(2))


def settings_of(*counts, **values):
    return AlignSettings(models=counts, **values)


def test_how_histories_are_read_is_not_left_to_a_handful_of_cases(world):
    log, cases, features = world

    few = cases.select(np.arange(4))
    whole = ContentKNN.of(features, 1.0, 10).scores(few.histories())
    whole[few.hidden(slice(4))] = -np.inf
    few = replace(few, targets=whole.argmax(axis=1))  # what all of a history looks like, as nobody in the log takes it

    def by_these(scoring):
        return ndcg(ranks(few, lambda block: scoring(few.histories(block))))

    (misled,), _ = base.fit_count_models(log, by_these, 5, ["content_knn"], features=features)
    assert misled.last >= 5
    assert count_models(log, few, features, settings_of("content_knn")).content_knn.last < 5


def test_whoever_judges_how_histories_are_read_does_not_teach_content_meanwhile(world):
    log, cases, _ = world
    few = cases.select(np.arange(10))
    readers = base._readers(log, few, 0)
    teachers = np.flatnonzero(np.diff(readers.others.offsets))
    assert 40 < len(teachers) < 80
    assert all(np.array_equal(readers.others.history(user), log.history(user)) for user in teachers)
    judges = set(range(120)) - set(teachers.tolist())
    histories = {tuple(log.history(user)[:end]) for user in judges for end in range(1, 7)}
    asked = []

    def scoring(block):
        asked.extend(tuple(block.history(row)) for row in range(block.n_users))
        return np.zeros((block.n_users, N), np.float32)

    assert readers.judge(scoring) == 0
    assert asked[:10] == [tuple(log.history(user)) for user in few.users]
    assert len(asked) > 200
    assert set(asked[10:]) <= histories


@pytest.mark.parametrize("counts", [c for n in range(1, 5) for c in combinations(EXPERTS, n)], ids="+".join)
def test_only_the_experts_that_are_asked_for_exist(world, counts, monkeypatch):
    log, cases, features = world
    monkeypatch.setattr(base, "GRID", base.GRID[:2])
    monkeypatch.setattr(base, "HALF_LIVES", base.HALF_LIVES[:2])
    few = cases.select(np.arange(40))
    found = count_models(log, few, features, settings_of(*counts))
    assert {p.name for p in found.item_item} == set(counts) & {"sequential", "ease"}
    assert (found.content_knn is not None) == ("content_knn" in counts)
    assert (found.popularity is not None) == ("popularity" in counts)
    assert set(found.report) == set(found.parts(few)) == set(counts)


def test_parts_score_the_cases_as_the_experts_do(world):
    log, cases, features = world
    found = count_models(log, cases, features, settings_of(*EXPERTS))
    asked = log.of_users(cases.users)
    parts = found.parts(cases)
    expected = {p.name: p.scores(asked) for p in found.item_item}
    expected["content_knn"] = found.content_knn.users(asked) @ compressed(features, found.content_knn.axes).T
    expected["popularity"] = Popularity.fit(log, found.popularity.half_life).log_scores(cases.times)
    for name, part in parts.items():
        np.testing.assert_allclose(part.scores(slice(0, 240)), expected[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(part.scores(slice(30, 33)), expected[name][30:33], rtol=1e-4, atol=1e-5)
        if name == "content_knn":
            continue  # some of the log judges as well, and does not teach meanwhile
        chosen = next(t for t in found.report[name]["tried"] if t["setting"] == found.report[name]["chosen"])
        rank = ranks(cases, lambda block, table=expected[name]: table[block].copy())
        assert chosen["ndcg@10"] == pytest.approx(ndcg(rank), abs=1e-4), "it was judged by what ships"
        assert chosen["ndcg@10"] == max(t["ndcg@10"] for t in found.report[name]["tried"])
    # What the walk teaches: neighbours by the latest item, the order more than the company.
    assert found.report["content_knn"]["chosen"]["last"] < 10
    score = {name: max(t["ndcg@10"] for t in report["tried"]) for name, report in found.report.items()}
    assert score["sequential"] > 2 * score["popularity"]


def test_a_trend_is_chosen_by_how_fast_demand_passes():
    """Items are in demand for a few days each, and as often long ago: only a short memory tells them apart."""
    days = np.arange(200)
    items = (days // 4) % 40
    histories = [[int(i)] * 3 for i in items]
    log = log_of(histories, 41, np.repeat(DAY * days, 3))
    asked = np.arange(60, 199)
    inner = asked[asked % 4 > 0]
    everybody = log_of([[40]] * len(inner), 41)
    cases = ValidationCases(
        everybody, np.arange(len(inner)), items[inner].astype(np.int64), np.ones(41, bool), DAY * inner
    )
    found = count_models(log, cases, np.zeros((41, 3), np.float32), settings_of("popularity"))
    assert found.popularity.half_life == 3
    tried = {t["setting"]["half_life"]: t["ndcg@10"] for t in found.report["popularity"]["tried"]}
    assert list(tried) == [*HALF_LIVES[:-1], None]
    assert tried[3] > 1.5 * tried[None]


def test_an_expert_keeps_as_many_partners_as_it_may(world):
    log, cases, features = world
    for most in (1, 4):
        found = count_models(
            log, cases.select(np.arange(30)), features, settings_of("sequential", "ease", neighbors=most)
        )
        assert [p.weights.getnnz(axis=0).max() for p in found.item_item] == [most, most]


def test_large_numbers_of_cases_are_sampled(world, monkeypatch):
    log, cases, features = world
    seen = []
    monkeypatch.setattr(base, "_JUDGED", 25)
    monkeypatch.setattr(base, "_READ", 65)
    monkeypatch.setattr(base, "ranks", lambda few, scores: seen.append(len(few)) or ranks(few, scores))
    found = count_models(log, cases, features, settings_of("content_knn", "popularity"))
    assert set(seen) == {25, 40}, "histories are read by some of the log as well"
    seen.clear()
    monkeypatch.setattr(base, "_READ_SCORES", 10 * N)
    count_models(log, cases, features, settings_of("content_knn"))
    assert set(seen) == {25, 0}, "by no more than validation has where there are too many items"
    assert found.parts(cases)["content_knn"].scores(slice(0, 240)).shape == (240, N)


def test_without_cases_the_first_settings_stay(world):
    log, cases, features = world
    nobody = cases.select(np.zeros(0, int))
    found = count_models(log, nobody, features, settings_of(*EXPERTS))
    for report in found.report.values():
        assert report["chosen"] == report["tried"][0]["setting"]
    assert set(found.parts(nobody)) == set(EXPERTS)


def test_content_that_is_absent_is_no_trouble(world):
    log, cases, _ = world
    found = count_models(log, cases, np.zeros((N, 5), np.float32), settings_of("content_knn"))
    assert not found.parts(cases)["content_knn"].scores(slice(0, 240)).any()


def test_few_dimensions_stay_as_they_are_and_many_become_their_principal_part():
    random = np.random.default_rng(0)
    narrow = random.normal(size=(20, 6)).astype(np.float32)
    narrow[4] = 0
    unit = compressed(narrow)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), np.arange(20) != 4, atol=1e-6)
    np.testing.assert_allclose(unit[7], narrow[7] / np.linalg.norm(narrow[7]), atol=1e-6)
    wide = (random.normal(size=(400, 150)) @ random.normal(size=(150, 300)) * np.linspace(3, 0.1, 300)).astype(
        np.float32
    )
    got = compressed(wide)
    assert got.shape == (400, DIM)
    _, _, axes = np.linalg.svd(wide.astype(np.float64), full_matrices=False)
    expected = wide @ axes[:DIM].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-3)
    assert np.array_equal(got, compressed(wide.copy()))


def test_taste_is_the_cosine_with_what_was_taken_last():
    features = np.eye(5, dtype=np.float32)
    content_knn = ContentKNN.of(features, 0.5, 2)
    users = content_knn.users(log_of([[0, 1, 2], [3], []], 5))
    np.testing.assert_allclose(users, [[0, 0.5 / 1.25**0.5, 1 / 1.25**0.5, 0, 0], [0, 0, 0, 1, 0], [0] * 5], atol=1e-6)
    assert content_knn.dim == 5


def test_histories_of_several_cases_may_be_asked_at_different_times(world):
    log, cases, _ = world
    later = replace(cases, times=cases.times + np.arange(240) * DAY)
    popularity = count_models(log, later, np.zeros((N, 2), np.float32), settings_of("popularity"))
    scores = popularity.parts(later)["popularity"].scores(slice(0, 2))
    assert not np.array_equal(scores[0], scores[1]), "the two cases of one user lie a day apart"
