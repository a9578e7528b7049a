"""Weights for what people take later: sets by hand, nothing after the cut is read, never worse than a part."""

import numpy as np
import pytest
from alignment_tasks import EXPERTS, cases_of, model_of
from eval_model_tasks import log_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped import is_mapped
from scipy.sparse import csr_matrix

from molar_retrieval.errors import DataError
from molar_retrieval.models import blending, content_knn, future_items
from molar_retrieval.models.base import count_models
from molar_retrieval.models.blending import fit_logit
from molar_retrieval.models.carry_over import recount
from molar_retrieval.models.future_items import (
    Future,
    FutureCases,
    ScoredSets,
    choose_future_items,
    weighed,
    with_future_items,
)
from molar_retrieval.models.popularity import DAY
from molar_retrieval.progress import Notes
from molar_retrieval.ranking.objectives import FUTURE_ITEMS, NEXT_ITEM
from molar_retrieval.workspace.settings import AlignSettings

ITEMS, PEOPLE, DAYS = 40, 120, 100


def lasting_log(seed=0, change=None):
    """Two groups of people with items of their own, taken in any order; ``change`` swaps items after 95 days."""
    random = np.random.default_rng(seed)
    histories, times = [], []
    for person in range(PEOPLE):
        own = np.arange(ITEMS // 2) * 2 + person % 2
        histories.append(random.choice(own, random.integers(4, 14), replace=False).tolist())
        times.append(np.sort(11_000 * DAY + random.integers(0, DAYS * DAY, len(histories[-1]))))
    log = log_of(histories, ITEMS, np.concatenate(times))
    if change is not None:
        late = log.timestamp >= 11_095 * DAY
        log.item[late] = change[log.item[late]]
    return log


def counted(log, names=("sequential", "ease", "popularity")):
    users = np.flatnonzero(np.diff(log.offsets) > 0)[:30]
    cases = cases_of([log.history(u).tolist() for u in range(log.n_users)], np.zeros(len(users)), ITEMS, users=users)
    return count_models(log, cases, np.eye(ITEMS, dtype=np.float32), AlignSettings(models=names))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(1, 4))
def test_the_ndcg_of_a_set_is_that_of_the_definition(seed, items, values):
    random = np.random.default_rng(seed)
    scores = random.integers(0, values, (5, items)).astype(np.float32)
    taken = random.random((5, items)) < 0.3
    taken[np.arange(5), random.integers(0, items, 5)] = True
    hidden = (random.random((5, items)) < 0.3) & ~taken
    got = ScoredSets(scores[None], hidden, csr_matrix(taken, dtype=np.float32)).gains(scores.copy())
    for row in range(5):
        order = sorted(np.flatnonzero(~hidden[row]), key=lambda i, r=row: (-scores[r, i], taken[r, i]))
        gain = sum(1 / np.log2(place + 2) for place, item in enumerate(order[:10]) if taken[row, item])
        best = sum(1 / np.log2(place + 2) for place in range(min(10, taken[row].sum(), items)))
        assert got[row] == pytest.approx(gain / best)


def test_cases_are_what_was_new_after_the_cut_and_could_be_known_before_it():
    log = lasting_log()
    cases = FutureCases.of(log, 0.1)
    assert 0.05 * len(log) < len(log) - len(cases.log) <= 0.1 * len(log) + 1
    assert cases.log.timestamp.max() < cases.cut <= log.timestamp.max()
    known = set(cases.log.item.tolist())
    for user in range(log.n_users):
        span = slice(log.offsets[user], log.offsets[user + 1])
        early = log.timestamp[span] < cases.cut
        had, after = set(log.item[span][early].tolist()), set(log.item[span][~early].tolist())
        expected = (after - had) & known if had else set()
        place = np.flatnonzero(cases.users == user)
        got = set(cases.taken[place[0]].indices.tolist()) if len(place) else set()
        assert got == expected
    asked = cases.histories()
    assert (asked.asked_at == cases.cut).all()
    assert [asked.history(n).tolist() for n in range(3)] == [cases.log.history(u).tolist() for u in cases.users[:3]]


def test_nothing_that_came_after_the_cut_changes_what_the_parts_say(monkeypatch):
    monkeypatch.setattr(content_knn, "_FEWEST_TAUGHT", 3)
    plain, other = lasting_log(), lasting_log(change=np.random.default_rng(1).permutation(ITEMS))
    counts = counted(plain, ("sequential", "ease", "popularity", "content_knn"))
    assert counts.content_knn.axes is not None, "people taught it"
    before, after = FutureCases.of(plain, 0.1), FutureCases.of(other, 0.1)
    both = np.intersect1d(before.users, after.users)
    assert (before.taken[:20] != after.taken[:20]).nnz
    scores = [
        {
            name: part.scores(np.searchsorted(cases.users, both))
            for name, part in Future.of(cases, counts, 20).parts.items()
        }
        for cases in (before, after)
    ]
    assert set(scores[0]) == {"sequential", "ease", "popularity", "content_knn"}
    for name in scores[0]:
        np.testing.assert_array_equal(scores[0][name], scores[1][name], err_msg=name)


def test_the_weights_are_never_worse_than_the_best_part_alone():
    log = lasting_log()
    counts = counted(log)
    weights, report = weighed([Future.of(FutureCases.of(log, after), counts, 20) for after in (0.5, 0.1)])
    alone = {name: score for name, score in report["scores"].items() if name != "aligned"}
    assert report["scores"]["aligned"] >= max(alone.values()) > 0
    assert min(weights.values()) >= 0
    assert sum(report["shares"].values()) == pytest.approx(1)


def test_of_a_set_the_logit_reads_what_is_among_the_first_of_a_part(monkeypatch):
    monkeypatch.setattr(blending, "FIRST", 10)
    random = np.random.default_rng(0)
    scores, hidden = random.normal(size=(2, 300, 200)).astype(np.float32), random.random((300, 200)) < 0.05
    taken = random.random((300, 200)) < random.choice([0.005, 0.02], 300)[:, None]
    taken[np.arange(300), random.integers(0, 200, 300)] = True
    hidden &= ~taken
    scores[:, taken] += np.float32([[2.0], [1.0]])
    table, shares = ScoredSets(scores, hidden, csr_matrix(taken, dtype=np.float32)).told()
    left, told = np.where(hidden, -np.inf, scores), 0
    for case in range(300):
        first = np.unique(np.argsort(-left[:, case], axis=1)[:, :10])
        own = first[taken[case, first]]
        if not len(own):
            continue
        places = shares[told].indices
        assert table[:, told][:, ~np.isnan(table[0, told])].tolist() == scores[:, case, first].tolist()
        assert table[:, told, places].tolist() == scores[:, case, own].tolist()
        assert shares[told].data == pytest.approx(1 / len(own))
        told += 1
    assert 200 < told == len(shares.indptr) - 1 < 300


def test_scores_that_do_not_fit_in_memory_lie_in_a_file_and_tell_the_same(tmp_path, monkeypatch):
    log = lasting_log()
    counts = counted(log)
    held = weighed([Future.of(FutureCases.of(log, after), counts, 20) for after in (0.5, 0.1)])
    monkeypatch.setattr(blending, "_MOST_SCORES", 1)
    futures = [Future.of(FutureCases.of(log, after, folder=tmp_path), counts, 20) for after in (0.5, 0.1)]
    assert all(is_mapped(block.scores) for future in futures for block in future.cases.scored(future.parts))
    assert weighed(futures) == held


def test_shares_of_a_set_are_the_mean_of_its_items_in_the_logit():
    random = np.random.default_rng(3)
    table = random.normal(size=(40, 12, 3)).astype(np.float32)
    sets = [random.choice(12, 3, replace=False) for _ in range(40)]
    table[np.repeat(np.arange(40), 3), np.concatenate(sets)] += np.float32([1.0, 0.5, 0.0])
    shares = csr_matrix((np.full(120, 1 / 3, np.float32), np.concatenate(sets), np.arange(0, 121, 3)), shape=(40, 12))
    table = np.moveaxis(table, -1, 0)
    repeated = fit_logit([np.repeat(table, 3, axis=1)], [np.concatenate(sets)])
    np.testing.assert_allclose(fit_logit([table], [shares]), repeated, rtol=1e-3, atol=1e-3)


def test_more_regularisation_is_tried_as_long_as_validation_asks_for_it(monkeypatch):
    log = lasting_log()
    counts, cases = counted(log), FutureCases.of(log, 0.1)
    later = choose_future_items(log, [cases], counts, AlignSettings(neighbors=5))
    assert later.ease_future is None or later.expert["chosen"]["neighbors"] == 1000
    reached = iter([0.1, 0.3, 0.4, 0.2, 0.05])  # the last one is that of ``linear``
    monkeypatch.setattr("molar_retrieval.models.blending.ScoreCache.ndcg", lambda *_: next(reached))
    found = future_items._ease_future([Future.of(cases, counts, 5)], 5)
    assert found.setting["regularisation"] == 32_000
    assert [one["ndcg@10"] for one in found.tried] == [0.1, 0.3, 0.4, 0.2]


def test_a_model_keeps_its_weights_for_the_next_item_and_has_others_for_later():
    log = lasting_log()
    counts = counted(log)
    model = model_of(towers=(), counts=EXPERTS)
    model = future_items.replace(model, item_item=counts.item_item, weights={**model.weights, "ease": 0.0})
    both, report, _ = with_future_items(model, log, counts, AlignSettings())
    assert both.default_objective == "next_item"
    assert {n: w for n, w in both.weights_for(NEXT_ITEM).items() if w} == {n: w for n, w in model.weights.items() if w}
    assert both.weights_for(FUTURE_ITEMS) != both.weights_for(NEXT_ITEM)
    assert report["cases"] >= 20
    assert (
        with_future_items(model, log, counts, AlignSettings(objectives=("future_items", "next_item")))[
            0
        ].default_objective
        == "future_items"
    )
    assert with_future_items(model, log, counts, AlignSettings(objectives=("next_item",))) == (model, {}, {})


def test_a_log_without_times_tells_nothing_of_later():
    log = lasting_log()
    log.timestamp[:] = 0
    model, counts, notes = model_of(), counted(log), Notes()
    same, report, _ = with_future_items(model, log, counts, AlignSettings(), notes)
    assert same is model
    assert "the log says too little" in report["note"]
    assert notes.notes
    with pytest.raises(DataError, match="future items"):
        with_future_items(model, log, counts, AlignSettings(objectives=("future_items", "next_item")))


def test_an_update_counts_the_lasting_expert_by_its_own_setting():
    log = lasting_log()
    chosen = {
        "ease": {"model": "EASE", "regularisation": 500},
        "ease_future": {"model": "EASE", "regularisation": 8000, "neighbors": 30},
    }
    ease_future = future_items.ease(future_items.EASECounts.of(log), chosen["ease_future"], 5, ITEMS)
    former = (future_items.refit("ease", log, chosen["ease"], 5, None), ease_future)
    found = recount(log, chosen, 5, former, np.arange(ITEMS))
    assert [one.name for one in found.item_item] == ["ease", "ease_future"]
    for one, expected in zip(found.item_item, former, strict=True):
        np.testing.assert_allclose(one.weights.toarray(), expected.weights.toarray(), atol=1e-5)
