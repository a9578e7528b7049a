"""Splits: who may see what."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from molar_eval.splits import (
    SPLITS,
    check_leaks,
    cold_items,
    cold_users,
    last_day,
    leave_one_out,
    make_split,
    temporal,
    with_ties,
)
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap

DAY = 86_400


def log_of(histories: list[list[tuple[int, int]]], n_items: int = 30) -> Interactions:
    """A log from (item, time) pairs per user."""
    flat = [pair for history in histories for pair in history]
    return Interactions(
        users=IdMap([f"u{n}" for n in range(len(histories))]),
        items=IdMap([f"i{n}" for n in range(n_items)]),
        offsets=np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64),
        item=np.array([item for item, _ in flat], np.int32),
        timestamp=np.array([time for _, time in flat], np.int64),
    )


def random_log(seed: int = 0, users: int = 60, n_items: int = 30, *, days: bool = False) -> Interactions:
    random = np.random.default_rng(seed)
    histories = []
    for _ in range(users):
        times = np.sort(random.integers(0, 1000, random.integers(1, 15)))
        times = times // 100 * DAY if days else times
        histories.append([(int(random.integers(n_items)), int(time)) for time in times])
    return log_of(histories, n_items)


def targets(cases, case: int) -> list[int]:
    return cases.targets[cases.offsets[case] : cases.offsets[case + 1]].tolist()


def test_leave_one_out_by_hand():
    split = leave_one_out(log_of([[(1, 1), (2, 2), (3, 3), (4, 4)], [(5, 1), (6, 2)], [(7, 1), (8, 2), (7, 3)]]))
    assert split.training.item.tolist() == [1, 2, 5, 6, 7]
    test = split.tests["last"]
    assert test.user_ids() == ["u0"]  # the last item of u2 is no news to them
    assert test.targets.tolist() == [4]
    assert test.inputs().item.tolist() == [1, 2, 3], "the input of the test includes the validation item"
    assert split.validation.user_ids() == ["u0", "u2"]
    assert split.validation.targets.tolist() == [3, 8]
    assert split.validation.inputs().item.tolist() == [1, 2, 7]
    assert "future" not in (split.warning or "")
    assert "temporal" in (split.warning or "")


def test_temporal_by_hand():
    # 10 interactions, times 0 … 9: t1 = 8, t2 = 9 at the quantiles .8 and .9.
    split = temporal(log_of([[(1, 0), (2, 1), (3, 8), (2, 9)], [(1, 2), (4, 3), (5, 4)], [(1, 5), (2, 6), (6, 7)]]))
    assert (split.facts["t1"], split.facts["t2"]) == (8, 9)
    assert split.training.timestamp.max() == 7
    assert split.validation.targets.tolist() == [3]
    assert len(split.tests["first new item"]) == 0  # 2 at time 9 is a repetition


def test_temporal_input_is_all_before_and_sets_start_at_the_cut():
    history = [(n, 10 * n) for n in range(18)] + [(3, 180), (20, 185), (21, 190), (20, 195)]
    split = temporal(log_of([history]), train=0.5, validation=0.3)
    cut = split.facts["t2"]
    first, everything = split.tests["first new item"], split.tests["all new items"]
    assert first.inputs().timestamp.max() < first.times()[0]
    assert everything.inputs().timestamp.max() < cut
    new = [item for item, time in history if time >= cut and item not in [i for i, t in history if t < cut]]
    assert targets(everything, 0) == list(dict.fromkeys(new))
    assert targets(first, 0) == new[:1]


def test_temporal_refuses_a_log_without_times():
    with pytest.raises(DataError, match="spreads over time"):
        temporal(log_of([[(1, 0), (2, 0), (3, 0)]]))


def test_cold_items_are_nowhere_in_training_and_nowhere_in_inputs():
    split = cold_items(random_log(), share=0.3, seed=1)
    log, cold, warm = split.history, split.tests["cold"], split.tests["warm"]
    removed = np.flatnonzero(~cold.readable)
    assert len(removed) == split.facts["removed items"] == round(0.3 * len(np.unique(log.item)))
    assert not np.isin(split.training.item, removed).any()
    assert not np.isin(cold.inputs().item, removed).any()
    assert np.isin(cold.targets, removed).all()
    assert not np.isin(warm.targets, removed).any()
    overall = split.tests["overall"]
    assert (overall.length == np.diff(log.offsets)[overall.user] - 1).all(), "each user's very last interaction"
    assert 0 < np.isin(overall.targets, removed).sum() < len(overall)
    # every first interaction with a removed item is a case, unless nothing readable lies before it
    expected = 0
    for user in range(log.n_users):
        history = log.history(user).tolist()
        for place, item in enumerate(history):
            if item in removed and item not in history[:place] and any(i not in removed for i in history[:place]):
                expected += 1
    assert len(cold) == expected
    assert cold_items(random_log(), share=0.3, seed=2).fingerprint != split.fingerprint
    among = split.tests["among the cold"]
    assert among.targets.tolist() == cold.targets.tolist()
    assert among.inputs().item.tolist() == cold.inputs().item.tolist()
    some = np.arange(log.n_items) % 2 == 0
    assert np.flatnonzero(among.among(some)).tolist() == [item for item in removed if item % 2 == 0]
    assert cold.among(some) is some


def test_cold_items_with_none_removed_asks_the_same_of_a_training_that_knows_them_all():
    log = random_log()
    without, whole = (cold_items(log, share=0.3, seed=1, removed=removed) for removed in (True, False))
    check_leaks(whole)
    assert list(whole.tests) == ["warm"]
    for one, other in ((without.tests["warm"], whole.tests["warm"]), (without.validation, whole.validation)):
        assert one.user.tolist() == other.user.tolist()
        assert one.targets.tolist() == other.targets.tolist()
        assert one.length.tolist() == other.length.tolist()
        assert other.readable is None
    assert np.isin(np.flatnonzero(~without.validation.readable), whole.training.item).all()
    for user, end in zip(whole.validation.user, whole.validation.length, strict=True):
        assert whole.training.history(user).tolist() == log.history(user)[:end].tolist(), "nothing after validation"


def test_cold_items_hides_what_was_seen_even_if_unreadable():
    split = cold_items(random_log(3), share=0.5, seed=0)
    cases = split.tests["cold"]
    seen, read = cases.seen(), cases.inputs()
    assert len(seen) > len(read)
    assert seen.n_users == read.n_users == len(cases)


def test_cold_users_are_not_in_training():
    split = cold_users(random_log(2, users=200), shown=3, share=0.25, validation=0.1, seed=0)
    test = split.tests["next"]
    counts = np.diff(split.training.offsets)
    assert (counts[test.user] == 0).all()
    assert (counts[split.validation.user] == 3).all()
    assert (np.diff(test.inputs().offsets) == 3).all()
    for case in range(len(test)):
        history = split.history.history(int(test.user[case])).tolist()
        fresh = [item for item in history[3:] if item not in history[: history.index(item, 3)]]
        assert targets(test, case) == fresh[:1]


def test_last_day_by_hand():
    a = [(1, 0), (2, DAY), (3, DAY + 5), (4, 2 * DAY), (2, 2 * DAY), (5, 2 * DAY + 1)]
    split = last_day(log_of([a, [(1, 0), (2, DAY)]]))
    assert split.training.item.tolist() == [1, 1, 2]
    assert split.validation.targets.tolist() == [2, 3]
    test = split.tests["last day"]
    assert test.targets.tolist() == [4, 5]  # 2 is no news
    assert [test.inputs(slice(n, n + 1)).item.tolist() for n in range(2)] == [[1, 2, 3], [1, 2, 3]]


def test_ties_rules():
    log = log_of([[(12, 5), (3, 5), (7, 5), (1, 9)]])
    assert with_ties(log, "file order") is log
    assert with_ties(log, "item id").item.tolist() == [12, 3, 7, 1]  # i12 < i3 < i7 as text
    swapped = log_of([[(7, 5), (3, 5), (12, 5), (1, 9)]])
    assert with_ties(swapped, "item id").item.tolist() == [12, 3, 7, 1]
    one, other = (leave_one_out(log_of([[(1, 1), (9, 5), (3, 5)]]), ties=t) for t in ("file order", "item id"))
    assert (one.tests["last"].targets[0], other.tests["last"].targets[0]) == (3, 9)


@pytest.mark.parametrize("name", list(SPLITS))
@pytest.mark.parametrize("seed", range(3))
def test_no_split_leaks_and_each_is_reproducible(name, seed):
    log = random_log(seed, users=120, days=name == "last day")
    split = SPLITS[name](log)
    check_leaks(split)
    assert len(split.validation)
    assert all(len(cases) for cases in split.tests.values())
    assert SPLITS[name](log).fingerprint == split.fingerprint
    for cases in [split.validation, *split.tests.values()]:
        inputs = cases.inputs()
        assert inputs.n_users == len(cases)
        for case in range(0, len(cases), 7):
            assert not set(targets(cases, case)) & set(cases.seen(slice(case, case + 1)).item.tolist())


def test_a_saved_split_says_all_that_another_tool_needs(tmp_path):
    split = cold_items(random_log())
    folder = split.save(tmp_path)
    record = json.loads((folder / "split.json").read_text())
    assert record["fingerprint"] == split.fingerprint
    history, cases = pq.read_table(folder / "history.parquet"), pq.read_table(folder / "test-cold.parquet")
    rows = {}
    for row in history.to_pylist():
        rows.setdefault(row["user_id"], []).append(row["item_id"])
    hidden = set(record["items_left_out_of_inputs"])
    inputs = split.tests["cold"].inputs()
    for case, row in enumerate(cases.to_pylist()[:20]):
        read = [item for item in rows[row["user_id"]][: row["input_length"]] if item not in hidden]
        assert read == split.history.items.ids(inputs.history(case))
        assert row["target_item_ids"] == split.history.items.ids(targets(split.tests["cold"], case))
    assert sum(history["training"].to_pylist()) == len(split.training)
    assert {name: set(ids) for name, ids in record["ranked_alone"].items()} == {"among the cold": hidden}
    before = (folder / "history.parquet").stat().st_mtime_ns
    assert split.save(tmp_path) == folder
    assert (folder / "history.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("leave-one-in", {}, "leave-one-out"),
        ("temporal", {"trian": 0.5}, "train"),
        ("last day", {"ties": "item id"}, "no options"),
        ("temporal", {"ties": "by chance"}, "item id"),
    ],
)
def test_a_wrong_split_is_refused_with_a_remedy(name, options, words):
    with pytest.raises(SettingsError) as caught:
        make_split(name, random_log(), options)
    assert words in caught.value.hint


def test_with_repeats_taking_again_is_an_answer():
    history = [(n, 10 * n) for n in range(18)] + [(3, 180), (20, 185), (21, 190), (3, 195)]
    split = temporal(log_of([history]), train=0.5, validation=0.3, repeats=True)
    check_leaks(split)
    cut = split.facts["t2"]
    after = [item for item, time in history if time >= cut]
    assert targets(split.tests["first item"], 0) == after[:1]
    assert targets(split.tests["all items"], 0) == list(dict.fromkeys(after))
    assert split.fingerprint != temporal(log_of([history]), train=0.5, validation=0.3).fingerprint
