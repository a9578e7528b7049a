"""The second stage: it learns what is there to learn, is used where that is borne out, and does the same everywhere."""

import json

import numpy as np
import pytest
from alignment_tasks import NEW, N, model_of, training_log

from molar_retrieval.models import reranker as reranking
from molar_retrieval.models.reranker import FEWEST, Lists, fit, learned, lists_of
from molar_retrieval.models.validation import ValidationCases, ndcg
from molar_retrieval.ranking.objectives import last
from molar_retrieval.ranking.reranker import Reranker, describe, features, matrix, names, standard
from molar_retrieval.rng import generator
from molar_retrieval.workspace.settings import AlignSettings

SETTINGS = AlignSettings(threads=1)
C, WIDTH = 30, 6


def made(signal: float, count: int = 800) -> Lists:
    """Lists where what came next depends on the score and, by ``signal``, on the third feature."""
    rng = generator(0, "re-ranking", signal)
    scores = -np.sort(-rng.normal(size=(count, C)), axis=1)
    given = rng.normal(size=(count, C, WIDTH)).astype(np.float32)
    logits = scores + signal * given[:, :, 2] + rng.gumbel(size=scores.shape)
    rank = np.tile(np.arange(1, C + 1), (count, 1))
    return Lists(scores, rank, given, logits.argmax(axis=1), np.full(count, 99), np.arange(count) // 2)


def fitted(lists: Lists, seed: int = 0) -> tuple[Reranker, np.ndarray, np.ndarray]:
    found = fit(lists, tuple("abcdef"), {}, AlignSettings(threads=1, seed=seed))
    assert found is not None
    return found


def test_a_signal_is_learned_and_borne_out_by_users_not_seen() -> None:
    lists = made(2.0)
    reranker, judged, gain = fitted(lists)
    assert ndcg(judged) > 1.2 * ndcg(lists.ranks(lists.scores))
    assert gain.mean() > 10 * gain.std() / np.sqrt(len(gain))
    moved = reranker(lists.features)
    assert np.corrcoef(moved.ravel(), lists.features[:, :, 2].ravel())[0, 1] > 0.9
    assert ndcg(lists.ranks(lists.scores + moved)) > 1.2 * ndcg(lists.ranks(lists.scores))


def test_without_a_signal_users_not_seen_gain_nothing() -> None:
    _, judged, gain = fitted(made(0.0))
    assert gain.mean() < 2 * gain.std() / np.sqrt(len(gain))
    assert ndcg(judged) < 1.02 * ndcg(made(0.0).ranks(made(0.0).scores))


def test_the_same_seed_is_the_same_reranker() -> None:
    one, other = fitted(made(1.0, 300))[0].to_tensors(), fitted(made(1.0, 300))[0].to_tensors()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(one["hidden"], fitted(made(1.0, 300), seed=1)[0].hidden)


def test_few_cases_train_nothing() -> None:
    assert fit(made(1.0, FEWEST - 1), tuple("abcdef"), {}, SETTINGS) is None
    lists = made(1.0, 300)
    lists.target[50:] = -1
    assert fit(lists, tuple("abcdef"), {}, SETTINGS) is None


def test_targets_that_are_no_candidates_keep_their_ranks() -> None:
    lists = made(1.0, 400)
    lists.target[::5] = -1
    _, judged, gain = fitted(lists)
    assert (judged[::5] == 99).all()
    assert len(gain) == 320


def test_shorter_lists_are_padded_without_effect() -> None:
    lists = made(2.0, 400)
    short = np.arange(400) % 2 == 0
    lists.target[short & (lists.target >= 10)] = -1
    scores, given = lists.scores.copy(), lists.features.copy()
    scores[short, 10:], given[short, 10:] = -np.inf, 0
    cut = Lists(scores, lists.rank, given, lists.target, lists.lower_bound, lists.user)
    reranker, judged, gain = fitted(cut)
    assert all(np.isfinite(array).all() for array in reranker.to_tensors().values())
    assert np.isfinite(gain).all()
    assert (judged >= 1).all()
    assert (judged[short & (cut.target >= 0)] <= 10).all()


def test_arrays_and_facts_are_the_whole_of_it() -> None:
    reranker = fitted(made(1.0, 300))[0]
    again = Reranker.of(reranker.described(), reranker.to_tensors())
    given = made(1.0, 300).features[7:8]
    assert np.array_equal(reranker(given), again(given))
    assert reranker(given)[0, :10].mean() == pytest.approx(0, abs=1e-6)


def test_several_lists_at_once_are_each_of_them() -> None:
    reranker, lists = fitted(made(1.0, 300))[0], made(1.0, 300).features[:3]
    assert np.array_equal(reranker(lists), np.concatenate([reranker(one[None]) for one in lists]))


def test_ranks_count_the_newcomers_between() -> None:
    rank = np.array([[1, 2, 4, 7]] * 4)
    lists = Lists(
        np.array([[4.0, 3.0, 2.0, 1.0]] * 3 + [[4.0, 3.0, -np.inf, -np.inf]]),
        rank,
        np.zeros((4, 4, 1), np.float32),
        np.array([2, 3, -1, 0]),
        np.array([9, 9, 3, 9]),
        np.arange(4),
    )
    assert lists.ranks(lists.scores).tolist() == [4, 7, 3, 1]
    moved = np.array([[0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 5.0, 0.0], [-2.0, 0.0, 0.0, 0.0]])
    assert lists.ranks(lists.scores + moved).tolist() == [1, 4, 3, 2]


def cases() -> ValidationCases:
    log = training_log()
    users = np.flatnonzero(np.diff(log.offsets) >= 2)
    log_before = log.without_last(users)
    allowed = np.ones(N, bool)
    return ValidationCases(log_before, users, log.item[log.offsets[users + 1] - 1].astype(np.int64), allowed,
                 log.timestamp[log.offsets[users + 1] - 1])  # fmt: skip


def test_lists_are_what_ships_without_a_second_stage() -> None:
    some = cases()
    model = model_of().seeing(some.log)
    lists = lists_of(model, some)
    log, hidden = some.histories(), some.hidden(slice(None))
    scores = np.where(hidden, -np.inf, model.lifted(model.scores(log), ~hidden))
    for case in range(len(some)):
        order = np.argsort(-scores[case], kind="stable")[: np.isfinite(scores[case]).sum()]
        known = np.flatnonzero(model.known[order])
        assert lists.scores[case][: len(known)] == pytest.approx(scores[case][order[known]], abs=1e-5)
        assert (lists.scores[case][len(known) :] == -np.inf).all()
        assert lists.rank[case][: len(known)].tolist() == (known + 1).tolist()
        if lists.target[case] >= 0:
            assert order[known[lists.target[case]]] == some.targets[case]
        else:
            assert hidden[case, some.targets[case]] or not model.known[some.targets[case]]
    assert set(np.flatnonzero(lists.target < 0)) == set(np.flatnonzero(hidden[np.arange(len(some)), some.targets]))


def test_what_came_next_may_be_a_newcomer_and_then_keeps_its_rank() -> None:
    some = cases()
    some.targets[:] = NEW[np.arange(len(some)) % len(NEW)]
    model = model_of(slots=last(3)).seeing(some.log)
    lists = lists_of(model, some)
    log, hidden = some.histories(), some.hidden(slice(None))
    scores = np.where(hidden, -np.inf, model.lifted(model.scores(log), ~hidden))
    own = scores[np.arange(len(some)), some.targets]
    assert (lists.target == -1).all()
    assert lists.lower_bound.tolist() == (scores >= own[:, None]).sum(axis=1).tolist()
    assert (lists.ranks(-lists.scores) == lists.lower_bound).all()
    assert (lists.lower_bound <= 10).mean() > 0.25


def test_reranking_moves_the_candidates_only(monkeypatch: pytest.MonkeyPatch) -> None:
    some = cases()
    model = model_of().seeing(some.log)
    monkeypatch.setattr("molar_retrieval.models.ensemble.CANDIDATES", 12)
    count = len(names(model.table, ()))
    rng = generator(0, "any re-ranker")
    arrays = {"mean": np.zeros(count), "deviation": np.ones(count), "hidden": rng.normal(size=(2, count, 3)),
              "bias": np.zeros((2, 3)), "out": rng.normal(size=(2, 3)), "skip": rng.normal(size=(2, count)),
              "scale": np.ones(2)}  # fmt: skip
    second = Reranker(names(model.table, ()), {}, **arrays)
    object.__setattr__(model, "reranker", second)
    log, allowed = some.histories(), ~some.hidden(slice(None))
    users = model.users(log, np.arange(log.n_users))
    before = model.lifted(model.scores_of(users, log), allowed)
    found = list(model.candidates(before, allowed, users, log))
    after = model.reranked(before.copy(), allowed, users, log)
    for user, candidates in enumerate(found):
        rows = candidates.rows
        known = candidates.take(np.flatnonzero(~candidates.cold))
        given = features(model.table, known.rows[None], known.parts[None], [log.history(user)], second.parts)
        (moved,) = second(given)
        assert candidates.parts.sum(axis=1) + candidates.lift == pytest.approx(before[user, rows], abs=1e-5)
        assert after[user, known.rows] == pytest.approx(before[user, known.rows] + moved, abs=1e-4)
        order = rows[np.argsort(-after[user, rows], kind="stable")]
        stay = np.flatnonzero(candidates.cold)
        assert 0 < len(stay) < len(rows)
        assert order[stay].tolist() == rows[stay].tolist()
        others = np.setdiff1d(np.flatnonzero(allowed[user]), rows)
        assert after[user, others].max() <= after[user, rows].min() + 1e-5
        assert np.ptp(after[user, others] - before[user, others]) < 1e-5


def test_a_list_of_newcomers_alone_is_left_as_it_is() -> None:
    some = cases()
    model = model_of(slots=last(9)).seeing(some.log)
    count = len(names(model.table, ()))
    own, each = np.ones((1, 1)), np.ones((1, count))
    flat = Reranker(names(model.table, ()), {}, each[0], each[0], each[..., None], own, own, each, np.ones(1))
    object.__setattr__(model, "reranker", flat)
    log = some.histories()
    allowed = np.zeros((len(some), N), bool)
    allowed[1:, NEW] = True  # the first may be shown nothing at all
    users = model.users(log, np.arange(log.n_users))
    before = model.lifted(model.scores_of(users, log), allowed)
    assert np.array_equal(model.reranked(before.copy(), allowed, users, log), before)


def test_it_is_off_where_it_is_told_so_or_too_little_is_known() -> None:
    some = cases()
    model = model_of().seeing(some.log)
    assert learned(model, some, {}, AlignSettings(reranker=False, threads=1)) == (None, {})
    second, facts = learned(model, some, {}, AlignSettings(threads=1))
    assert second is None
    assert facts["cases"] < FEWEST


def test_facts_can_be_written_down_where_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = made(0.0)
    reranker, judged, _ = fitted(lists)
    losses = -np.ones(len(lists.scores), np.float32) - np.arange(len(lists.scores)) % 2
    monkeypatch.setattr(reranking, "lists_of", lambda *_: lists)
    monkeypatch.setattr(reranking, "fit", lambda *_: (reranker, judged, losses))
    model = model_of()
    log = training_log()
    users = np.arange(log.n_users)
    cases = ValidationCases(log, users, users % N, np.ones(N, bool), np.zeros(log.n_users, np.int64))
    second, facts = learned(model, cases, {}, SETTINGS)
    assert second is None
    assert json.loads(json.dumps(facts))["used"] is False


def test_numbers_are_standardised_and_missing_ones_average() -> None:
    fields = {"year": np.array([1990.0, 2000.0, np.nan, 2010.0]), "same": np.ones(4), "none": np.full(4, np.nan)}
    standards = describe(fields)
    assert list(standards) == ["year"]
    table = matrix(fields, standards, 4)
    assert table[2, 0] == 0
    assert table[[0, 1, 3], 0].mean() == pytest.approx(0, abs=1e-6)
    assert standard(np.array([np.inf]), 0.0, 1.0).tolist() == [0.0]
    assert matrix({}, {}, 4).shape == (4, 0)
