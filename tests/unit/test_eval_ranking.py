import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from eval_ranking_cases import cases_of

from molar_eval.ranking import rank, rank_vectors
from molar_retrieval.errors import DataError, SettingsError

ALL = np.ones(8, bool)


def _cases(targets, n_items=8, history=()):
    return cases_of([list(history)] * len(targets), targets, n_items)


def _constant(row):
    return lambda inputs: np.tile(np.asarray(row, np.float32), (inputs.n_users, 1))


def test_a_model_that_says_nothing_finds_nothing():
    ranked = rank(_cases([[0], [3], [7]]), _constant(np.zeros(8)), k=3, candidates=ALL)
    assert ranked.ranks.tolist() == [8, 8, 8]
    assert ranked.items.tolist() == [[0, 1, 2]] * 3


def test_targets_do_not_stand_in_each_others_way_more_than_once():
    ranked = rank(_cases([[4, 1, 6]]), _constant(np.zeros(8)), k=1, candidates=ALL)
    assert sorted(ranked.ranks.tolist()) == [6, 7, 8]


def test_what_was_seen_is_hidden_unless_shown():
    cases, scores = _cases([[2]], history=[0, 1, 1, 5]), _constant(np.arange(8)[::-1])
    hidden, shown = (rank(cases, scores, k=8, candidates=ALL, seen=seen) for seen in ("hide", "show"))
    assert hidden.items.tolist() == [[2, 3, 4, 6, 7, -1, -1, -1]]
    assert hidden.ranks.tolist() == [1]
    assert shown.items.tolist() == [list(range(8))]
    assert shown.ranks.tolist() == [3]


def test_an_unreadable_item_is_hidden_all_the_same():
    cases = cases_of([[0, 1]], [[2]], 8, readable=np.arange(8) > 0)
    read = []

    def scores(inputs):
        read.append(inputs.item.tolist())
        return np.arange(8, dtype=np.float32)[None, ::-1]

    assert rank(cases, scores, k=1, candidates=ALL).items.tolist() == [[2]]
    assert read == [[1]]


@pytest.mark.parametrize("case", ["no candidate", "hidden", "not scored"])
def test_a_target_that_cannot_be_recommended_is_a_miss(case):
    candidates = ALL if case != "no candidate" else np.arange(8) != 3
    row = np.where(np.arange(8) == 3, -np.inf if case == "not scored" else 9, 0)
    cases = _cases([[3, 4]], history=[3] if case == "hidden" else [])
    ranked = rank(cases, _constant(row), k=8, candidates=candidates)
    assert ranked.ranks.tolist() == [0, 7]
    assert 3 not in ranked.items


def test_numbers_only():
    scores = np.zeros(8)
    scores[5] = np.nan
    with pytest.raises(DataError, match="NaN"):
        rank(_cases([[1]]), _constant(scores), k=3, candidates=ALL)
    with pytest.raises(DataError, match="NaN"):
        rank_vectors(_cases([[1]]), np.ones((1, 1), np.float32), scores[:, None].astype("f"), k=3, candidates=ALL)
    ranked = rank(_cases([[1]], history=[5]), _constant(scores), k=8, candidates=ALL)
    assert ranked.ranks.tolist() == [7]


def test_errors():
    with pytest.raises(DataError, match=r"shape \(1, 7\) for 1 histories and 8 items"):
        rank(_cases([[1]]), _constant(np.zeros(7)), k=3, candidates=ALL)
    with pytest.raises(SettingsError, match="0 items"):
        rank(_cases([[1]]), _constant(np.zeros(8)), k=0, candidates=ALL)


def _random(n_cases, n_items, dim, seed=0):
    random = np.random.default_rng(seed)
    histories = [random.choice(n_items, random.integers(0, 9), replace=False) for _ in range(n_cases)]
    targets = [[int(random.integers(n_items))] for _ in range(n_cases)]
    vectors = (random.standard_normal((n, dim), dtype=np.float32) for n in (n_cases, n_items))
    return cases_of(histories, targets, n_items), *vectors


def test_bit_equal_under_any_budget():
    cases, users, items = _random(600, 40_000, 24)
    items[20_000:] = items[:20_000]  # ties across panels
    users[::7] = 0  # and ties everywhere
    candidates = np.arange(len(items)) % 5 > 0
    results = [rank_vectors(cases, users, items, k=60, candidates=candidates, memory=m) for m in (1, 40 << 20, 1 << 30)]
    for ranked in results[1:]:
        for name in ("items", "scores", "ranks"):
            assert np.array_equal(getattr(ranked, name), getattr(results[0], name))
    assert (results[0].ranks[::7][results[0].ranks[::7] > 0] > 31_000).all()


def test_progress_counts_every_case():
    class Counter:
        told, running = 0, None

        def start(self, task, total):
            self.running = total

        def advance(self, n=1):
            self.told += n

        def finish(self):
            self.running = None

    cases, users, items = _random(300, 50, 4)
    counter = Counter()
    rank_vectors(cases, users, items, k=5, candidates=np.ones(50, bool), memory=1, progress=counter)
    assert (counter.told, counter.running) == (300, None)


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_eval_ranking import _random
from molar_eval.ranking import rank_vectors
megabytes = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
cases, users, items = _random(5_000, 200_000, 32)
options = {"k": 50, "candidates": np.ones(200_000, bool), "memory": 64 << 20}
rank_vectors(cases.select(np.arange(5_000) < 2), users[:2], items, **(options | {"memory": 1}))  # loads the libraries
before = megabytes()
ranks = rank_vectors(cases, users, items, **options).ranks
print(json.dumps({"grown": megabytes() - before, "found": int((ranks > 0).sum())}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_bounded():
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = f"import sys; sys.path.insert(0, {paths[1]!r})" + SCRIPT
    run = subprocess.run([sys.executable, "-c", script, paths[0]], capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)
    assert measured["found"] > 4_990
    # The scores of all would take 4 GB; lists and ranks take 2 MB.
    assert measured["grown"] < 64 + 32
