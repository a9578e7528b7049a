"""The benchmark of training speed: who works when, what is counted, and that the ranked vectors are the models' own.

RecTools' side runs where `make bench` has made its environment, and is skipped, saying so, elsewhere.
"""

import importlib
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from eval_model_tasks import log_of, walks

from molar_eval.models.peers import environments
from molar_eval.models.peers.environments import PeerEnvironment
from molar_eval.splits import leave_one_out

BENCH = Path(__file__).resolve().parents[2] / "bench"
HISTORY = 5
LONG = [[item for _ in range(3) for item in range(4)] + [9, 8, 7]] * 3


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def turns():
    return importlib.import_module("turns")


@pytest.fixture
def training():
    return importlib.import_module("training")


@pytest.fixture
def rectools():
    python = importlib.import_module("rectools_environment").made()
    if python is None:
        pytest.skip("RecTools has no environment here (`make bench`, or python bench/rectools_environment.py)")
    return python


@pytest.fixture
def split():
    """Walks, some histories longer than the models read, and one too short to train on."""
    return leave_one_out(log_of([*walks(), *LONG, [1, 2, 3]]))


def small(training, **changes):
    return training.Plan(**{"epochs": 2, "dim": 16, "history": HISTORY, "batch": 16, "dropout": 0.1, **changes})


def lengths(split):
    return np.diff(split.training.offsets)


def player(turns, folder, name, code):
    script = f"import sys, time; sys.path.insert(0, {str(BENCH)!r}); from turns import tell, wait\n{code}"
    return turns.Player(name, [sys.executable, "-c", script], folder / f"{name}.log")


WORK = """
print("noise", flush=True)
for _ in range(2):
    wait()
    began = time.monotonic()
    time.sleep(0.1)
    tell(began=began, ended=time.monotonic())
"""


def test_players_never_work_at_the_same_time(turns, tmp_path):
    with player(turns, tmp_path, "a", WORK) as one, player(turns, tmp_path, "b", WORK) as other:
        told = [who.turn() for _ in range(2) for who in (one, other)]
    assert all(later["began"] >= sooner["ended"] for sooner, later in pairwise(told))
    assert (tmp_path / "a.log").read_text() == "noise\n"


def test_a_player_that_ends_too_soon_is_an_error_that_shows_its_last_words(turns, tmp_path):
    with player(turns, tmp_path, "a", "wait(); raise ValueError('no room')") as one:
        with pytest.raises(turns.PlayerLostError, match=r"(?s)^a ended with 1:.*no room"):
            one.turn()
        with pytest.raises(turns.PlayerLostError):
            one.turn()


def test_a_player_that_is_left_alone_ends(turns, tmp_path):
    with player(turns, tmp_path, "a", "wait()") as one:
        one._input.close()
        with pytest.raises(turns.PlayerLostError, match="nobody is left"):
            one.hear()


def test_a_player_does_not_outlive_its_game(turns, tmp_path):
    with player(turns, tmp_path, "a", "time.sleep(60)") as one:
        began = time.monotonic()
    assert one._process.returncode is not None
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_molar_trains_on_every_position_and_its_vectors_rank(training, split):
    plan = small(training, epochs=15, rank=True, dropout=0.0)
    sides = training.measure(split, plan, {"molar": Path(sys.executable)})
    ours = sides["molar"]
    assert ours["positions"] == np.maximum(lengths(split) - 1, 0).sum()
    assert len(ours["seconds"]) == 15
    assert ours["positions_per_second"] == pytest.approx(ours["positions"] / np.median(ours["seconds"]))
    assert ours["threads"] == 1
    chance = np.mean([1 / np.log2(1 + r) if r <= 10 else 0 for r in range(1, 29)])
    assert ours["ndcg@10"]["validation"] > 2 * chance
    assert ours["ndcg@10"]["test"] > 2 * chance
    result = training.report(split, plan, sides, "no network")
    assert result["ratio"] is None
    assert [row[0].strip() for row in training.rows(result)][-1] == "test NDCG@10 after 15 epochs"


@pytest.mark.slow
def test_both_sides_train_the_same_log(training, split, rectools):
    plan = small(training, rank=True)
    sides = training.measure(split, plan, {"molar": Path(sys.executable), "RecTools": rectools})
    # RecTools takes the last positions of each user, and leaves out who has none.
    assert sides["RecTools"]["positions"] == np.minimum(np.maximum(lengths(split) - 1, 0), HISTORY).sum()
    assert sides["RecTools"]["positions"] < sides["molar"]["positions"]
    result = training.report(split, plan, sides, None)
    speeds = [facts["positions_per_second"] for facts in sides.values()]
    assert result["ratio"] == pytest.approx(speeds[0] / speeds[1])
    table = {what.strip(): row for what, *row in training.rows(result)}
    assert table["train, target positions/s"][1].startswith("RecTools")
    assert float(table["test NDCG@10 after 2 epochs"][0]) == pytest.approx(sides["molar"]["ndcg@10"]["test"], abs=1e-4)


@pytest.mark.slow
def test_the_vectors_of_rectools_give_the_lists_that_it_recommends(training, split, rectools, tmp_path):
    training.write(split, small(training), tmp_path)
    child = [rectools, Path(__file__).parents[1] / "bench_rectools_child.py", BENCH, tmp_path]
    done = subprocess.run(list(map(str, child)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lists = json.loads(done.stdout.splitlines()[-1])
    assert len(lists["ours"]) == len(split.tests["last"])
    assert lists["ours"] == lists["theirs"]


def test_quality_is_the_gain_of_the_ranks_that_the_vectors_give(training, split, tmp_path):
    random = np.random.default_rng(0)
    cases = training.cases_of(split)
    vectors = {name: random.standard_normal((len(c), 4), dtype=np.float32) for name, c in cases.items()}
    known = random.random(30) < 0.9
    items = random.standard_normal((30, 4), dtype=np.float32)
    np.savez(tmp_path / "vectors.npz", items=items, known=known, **vectors)
    found = training.quality(split, tmp_path / "vectors.npz")
    for name, asked in cases.items():
        gains = []
        for case, (user, target) in enumerate(zip(asked.user, asked.targets, strict=True)):
            scores = np.where(known, items @ vectors[name][case], -np.inf)
            scores[asked.history.history(user)[: asked.length[case]]] = -np.inf
            place = 1 + int((scores > scores[target]).sum())
            gains.append(1 / np.log2(1 + place) if place <= 10 and known[target] else 0)
        assert found[name] == pytest.approx(np.mean(gains), abs=1e-6)


def test_some_users_keep_their_histories(training, tmp_path):
    demo = importlib.import_module("molar_retrieval.data.demo")
    demo.write_demo_shop(tmp_path / "shop", items=60, users=80)
    whole, some = training.read_log(tmp_path / "shop", None), training.read_log(tmp_path / "shop", 10)
    assert some.n_users == 10
    histories = {tuple(whole.history(user)) for user in range(whole.n_users)}
    assert all(tuple(some.history(user)) in histories for user in range(10))
    assert some.items == whole.items


@pytest.mark.slow
def test_an_environment_that_pip_cannot_fill_says_why_and_is_tried_again(tmp_path, monkeypatch):
    environment = importlib.import_module("rectools_environment")

    def pins(names):
        monkeypatch.setattr(PeerEnvironment, "requirements", property(lambda self: names))

    pins([str(tmp_path / "absent.whl")])
    with pytest.raises(environment.NotInstallableError, match="absent"):
        environment.make(tmp_path / "env")
    assert environment.made(tmp_path / "env") is None
    created = []
    monkeypatch.setattr(environments.venv, "create", lambda folder, **_: created.append(folder))
    pins(["pip"])  # which is there already
    for _ in range(2):
        python = environment.make(tmp_path / "env")
    assert created == [tmp_path / "env"]
    assert subprocess.run([python, "-c", "import pip"], check=False).returncode == 0
    pins(["pip", "other==1"])
    assert environment.made(tmp_path / "env") is None
