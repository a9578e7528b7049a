"""Models of another project: what their scripts are told, who judges them, and what happens when they fail.

A script of a few lines, run by our own Python, stands in for them. The real ones run where a folder with their
environments is named by MOLAR_TEST_PEERS, and are skipped elsewhere.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_model_tasks import COLD, N_ITEMS, leave_one_out, log_of, walks

from molar_eval.cases import Cases
from molar_eval.models.base import Fitted, validation_ndcg
from molar_eval.models.peers import environments
from molar_eval.models.peers.environments import RECTOOLS, NotInstallableError, PeerEnvironment
from molar_eval.models.peers.peer import SCRIPTS, Peer, PeerProcess, peers
from molar_retrieval.errors import DataError
from molar_retrieval.models.item_item import known_items

# What follows the last item of a history, counted in the training log; judged twice, the second time all zeros.
FOLLOWS = """
import sys
from pathlib import Path
import numpy as np
from exchange import Exchange

exchange, counts = Exchange(Path(sys.argv[1])), None
print("a library says something")
Path("left behind").touch()
log = exchange.training
counts = np.zeros((exchange.n_items, exchange.n_items), np.float32)
same = log.row[1:] == log.row[:-1]
np.add.at(counts, (log.item[:-1][same], log.item[1:][same]), 1)

def score(histories):
    lasts = [histories.item[histories.row == row][-1:] for row in range(len(histories))]
    return np.stack([counts[last[0]] if len(last) else np.zeros(exchange.n_items) for last in lasts])

runs = exchange.folder / "runs"
runs.write_text(str(int(runs.read_text()) + 1) if runs.exists() else "1")
good, bad = exchange.judged(score(exchange.validation)), exchange.judged(0 * score(exchange.validation))
told = {"seed": exchange.seed, "options": exchange.options}
asked = exchange.validation.asked_at.tolist()
exchange.answer(score, good=good, bad=bad, told=told, asked=asked, times=log.timestamp[:3].tolist())
"""


class Here(PeerEnvironment):
    """Our own environment."""

    requirements = ("nothing",)

    def made(self, folder):
        return Path(sys.executable)

    def make(self, folder):
        return self.made(folder)


@pytest.fixture
def peer(tmp_path):
    def make(script=FOLLOWS, name="follows", **options):
        place = tmp_path / "scripts"
        place.mkdir(exist_ok=True)
        shutil.copy(SCRIPTS / "exchange.py", place)
        (place / f"{name}.py").write_text(textwrap.dedent(script), "utf-8")
        environment = Here("here", ())
        return Peer(name, environment, tmp_path, str(place / f"{name}.py"), {"epochs": 2, **options}, "made up")

    return make


@pytest.fixture
def task(tmp_path):
    return leave_one_out(walks(), tmp_path / "models")


def follows(log):
    counts = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    for row in range(log.n_users):
        history = log.history(row)
        np.add.at(counts, (history[:-1], history[1:]), 1)
    return counts


def test_it_is_trained_judged_and_asked(peer, task):
    given, test = task
    fitted, counts = peer().fit(given, seed=3), follows(given.training)
    for inputs in (test.inputs(), test.inputs(slice(5, 9)), log_of([[], [3, 4], [COLD[0]]])):
        found = fitted.scores(inputs)
        assert np.isneginf(found[:, list(COLD)]).all(), "nobody has taken them in training"
        last = [inputs.history(row)[-1:] for row in range(inputs.n_users)]
        expected = np.stack([counts[one[0]] if len(one) else np.zeros(N_ITEMS) for one in last])
        np.testing.assert_array_equal(found[:, : COLD[0]], expected[:, : COLD[0]])
    assert fitted.finish(found, found > 0, inputs) is found
    facts = fitted.facts
    ours = Fitted(lambda log: counts[[log.history(u)[-1] for u in range(log.n_users)]], known_items(given.training), {})
    assert facts["good"] == validation_ndcg(ours, given, given.validation) > 0.3
    assert facts["bad"] == 0, "equal scores count against the targets"
    assert facts["told"] == {"seed": 3, "options": {"epochs": 2}}
    assert facts["asked"] == given.validation.times().tolist()
    assert facts["validation_cases"] == 80
    assert "a library says something" in (fitted.folder / "peer.log").read_text()
    assert (fitted.folder / "left behind").exists(), "not where we stand"
    assert not list(fitted.folder.glob("*.npy")), "scores do not stay"


def test_equal_times_keep_the_order_that_the_split_goes_by(peer, task):
    """The sort of a peer by time is stable, and times are what the log has, not places in it."""
    given, _ = task
    backwards = given.training.item[::-1].copy()  # any order, all at one time
    log = replace(given.training, item=backwards, timestamp=np.full(len(backwards), 7))
    fitted = peer().fit(replace(given, training=log), 0)
    assert fitted.facts["times"] == [7, 7, 7]
    found = fitted.scores(log_of([[4]]))
    np.testing.assert_array_equal(found[0, known_items(log)], follows(log)[4][known_items(log)])


def test_a_second_run_finds_the_files_of_the_first_and_another_seed_does_not(peer, task):
    given, _ = task
    runs = [peer().fit(given, seed).folder / "runs" for seed in (0, 0, 1)]
    assert [path.read_text() for path in runs] == ["2", "2", "1"]
    assert runs[0] == runs[1] != runs[2]


def test_all_that_shapes_it_is_in_its_settings(peer):
    settings = [peer().settings, peer(epochs=3).settings, peer(FOLLOWS + "X = 1").settings]
    assert len({json.dumps(one, sort_keys=True) for one in settings}) == 3
    assert peer().settings == peer(FOLLOWS + "# said").settings
    published = peers(Path("nowhere"))
    every = [make().settings for make in published.values()]
    assert len({json.dumps(one, sort_keys=True) for one in every}) == len(every) == 3
    assert all(one["source"] and one["requirements"][-1].startswith("torch==") for one in every)
    assert list(published) == [make().name for make in published.values()]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise ValueError('no such thing')", "ended with 1: ValueError: no such thing"),
        ("import sys; sys.exit(0)", "ended with 0: it printed nothing"),
    ],
)
def test_a_script_that_fails_says_why(peer, task, script, said):
    with pytest.raises(DataError, match=said) as caught:
        peer(script, "fails").fit(task[0], 0)
    assert "peer.log" in caught.value.hint


def test_a_script_that_fails_when_it_is_asked_says_why(peer, task):
    script = FOLLOWS.replace("def score(histories):", "def score(histories):\n    assert len(histories) == 80, 'some'")
    fitted = peer(script, "picky").fit(task[0], 0)
    with pytest.raises(DataError, match="AssertionError: some"):
        fitted.scores(log_of([[1]]))


def test_scores_of_another_shape_are_refused(peer, task):
    script = FOLLOWS.replace("exchange.answer(score,", "exchange.answer(lambda histories: score(histories)[:, :7],")
    with pytest.raises(DataError, match="shape"):
        peer(script, "short").fit(task[0], 0).scores(task[1].inputs())


def test_nothing_to_train_on_is_refused(peer, task):
    nothing = task[0].training.select(np.zeros(len(task[0].training), bool))
    with pytest.raises(DataError, match="no training interactions"):
        peer().fit(replace(task[0], training=nothing), 0)


def test_a_script_ends_with_those_who_ask(peer, task, tmp_path):
    fitted = peer().fit(task[0], 0)
    running = fitted.process._process
    assert running.poll() is None
    del fitted
    assert running.poll() is not None, "with the last reference to what it answers for"
    place = Path(peer("from exchange import Exchange\nimport sys, time\nfrom pathlib import Path\n"
                      "Exchange(Path(sys.argv[1])).judged([[1.0]])\ntime.sleep(600)\n", "waits").script)  # fmt: skip
    folder = next(path.parent for path in tmp_path.rglob("plan.json"))
    left = PeerProcess("waits", Path(sys.executable), place, folder)
    assert left.hear() == {"judge": "validation.npy"}
    left._process.stdin.close()  # as when we are killed
    assert left._process.wait(timeout=20) == 0


def test_an_environment_is_made_once_for_what_it_holds(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(environments.venv, "create", lambda folder, **_: folder.mkdir(exist_ok=True))
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(environments.subprocess, "run", lambda command, **_: ran.append(command) or done)
    python = RECTOOLS.make(tmp_path / "one")
    assert python == RECTOOLS.make(tmp_path / "one") == RECTOOLS.made(tmp_path / "one")
    assert len(ran) == 1
    assert set(RECTOOLS.requirements) <= set(ran[0])
    assert PeerEnvironment("rectools", ("rectools==0.1",)).made(tmp_path / "one") is None


def test_a_peer_that_cannot_be_installed_is_left_out_with_the_reason(tmp_path, task, monkeypatch):
    def fails(self, folder):
        raise NotInstallableError("No matching distribution found for rectools")

    monkeypatch.setattr(PeerEnvironment, "make", fails)
    with pytest.raises(DataError, match=r"RecTools HSTU.*No matching distribution") as caught:
        peers(tmp_path)["RecTools HSTU"]().fit(task[0], 0)
    assert "leave this model out" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("name", list(peers(Path())))
def test_the_real_ones_learn_something_and_answer(name, task):
    """One epoch or a few of each, on walks in which a model of sequences finds the next item."""
    where = os.environ.get("MOLAR_TEST_PEERS")
    one = peers(Path(where or "nowhere"))[name]()
    if where is None or one.environment.made(one.environments / one.environment.name) is None:
        pytest.skip(f"no environment of {one.environment.name} in a folder named by MOLAR_TEST_PEERS")
    given, test = task
    fitted = replace(one, options={**one.options, "epochs": 3}).fit(given, 0)
    found = fitted.scores(test.inputs())
    assert found.shape == (80, N_ITEMS)
    assert np.isneginf(found[:, list(COLD)]).all()
    assert np.isfinite(found[:, : COLD[0]]).all()
    assert len(fitted.facts["epochs"]) == 3
    again = fitted.scores(Cases.single(test.history, test.user[:5], test.length[:5], test.targets[:5]).inputs())
    np.testing.assert_allclose(again[:, : COLD[0]], found[:5, : COLD[0]], rtol=1e-3, atol=1e-4)
