"""The search for settings: the space, who chooses, what is kept, and what a kill leaves."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_eval.tuning.result import (
    Confirmation,
    SearchParameter,
    TuningResult,
    TuningTrial,
    headline,
    lines_of,
    search_space,
    sentences,
    with_values,
)
from molar_eval.tuning.search import FEWEST, FOLDER, PrunedError, TrialWorkspace, halves, tune
from molar_eval.tuning.study import SettingsStudy
from molar_retrieval.errors import BackendError, DataError, SettingsError
from molar_retrieval.models.als import held_out
from molar_retrieval.progress import Notes, ToldOnce
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import PRESETS
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import ALSSettings, MolarSettings, SplitSettings

CHILD = Path(__file__).parents[1] / "tuning_child.py"
QUICK = '[align]\npreset = "instant"  # seconds\nmodels = ["sequential"]\nthreads = 1\n'
TRIALS = 2


def opened(trained, folder):
    copy_workspace(trained.workspace, folder / ".molar", symlinks=True)
    (folder / "molar.toml").write_text(QUICK, "utf-8")
    return molar.Shop(trained.shop, folder / ".molar")


def files(shop):
    """Size and time of all files that a search must not touch."""
    found = (path for path in shop.workspace.rglob("*") if path.is_file() and path.name != "lock")
    kept = ((path, path.relative_to(shop.workspace).parts[0]) for path in found)
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path, top in kept if top in KINDS}


KINDS = {"catalogue", "content", "interactions", "als", "alignment", "generations"}


@pytest.fixture(scope="module")
def searched(trained, tmp_path_factory):
    """A shop with a search that nothing interrupted, what was live before, and what was found."""
    shop = opened(trained, tmp_path_factory.mktemp("searched"))
    before = files(shop)
    return shop, before, shop.tune(minutes=60, trials=TRIALS)


def log_of(trained):
    return held_out(Workspace(trained.workspace), SplitSettings()).training


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_trial_has_the_settings_as_they_are(trained, preset):
    settings = MolarSettings.model_validate({"align": {"preset": preset, "dropout": 0.77}, "als": {"factors": 500}})
    space = search_space(settings, log_of(trained))
    same = with_values(settings, space, {one.name: one.current for one in space})
    for one in space:
        section = getattr(same, one.section)
        assert getattr(section, one.key) == one.current
        assert one.current in one.choices or one.low <= one.current <= one.high
        assert getattr(getattr(settings, one.section), one.key) in (one.current, None)
        for end in one.choices or (one.low, one.high):
            value = end if one.choices or one.step is None else int(end)
            with_values(settings, space, {other.name: other.current for other in space} | {one.name: value})
    towers = {one.key for one in space} & {"embedding_dim", "content_dim", "learning_rate"}
    assert towers == {"instant": set(), "fast": {"embedding_dim", "learning_rate"}}.get(
        preset, {"embedding_dim", "content_dim", "learning_rate"}
    )


def test_a_rate_of_zero_is_left_as_it_is(trained):
    settings = MolarSettings(als=ALSSettings(regularization=0, alpha=1))
    names = {one.name for one in search_space(settings, log_of(trained))}
    assert "als.regularization" not in names
    assert "als.alpha" in names


def test_values_are_tried_as_they_would_be_written():
    dropout = SearchParameter("align", "dropout", 0.123456, low=0, high=1)
    assert (dropout.rounded(0.123456), dropout.rounded(0.987654)) == (0.123456, 0.988)


def test_people_who_confirm_neither_choose_nor_teach(trained):
    place = Workspace(trained.workspace)
    whole, divided = held_out(place, SplitSettings()), halves(place, SplitSettings())
    choose, confirm = set(divided.choose.users.tolist()), set(divided.confirm.users.tolist())
    assert not choose & confirm
    assert choose | confirm == set(whole.users.tolist())
    assert abs(len(choose) - len(confirm)) <= 1
    log = divided.choose.training
    for user, item in zip(divided.confirm.users, divided.confirm.targets, strict=True):
        assert item not in log.item[log.offsets[user] : log.offsets[user + 1]]
    with pytest.raises(DataError, match=f"{2 * FEWEST} are the least"):
        halves(place, SplitSettings(validation_users=2 * FEWEST - 1))


def test_a_search_leaves_what_is_live_and_little_else(searched):
    shop, before, result = searched
    assert files(shop) == before
    assert [trial.number for trial in result.trials] == list(range(TRIALS))
    assert result.ran == TRIALS
    kept = {path.name for path in result.folder.iterdir()}
    ranks = {f"ranks-{number}.safetensors" for number in {0, result.best.number}}
    assert kept == {"study.sqlite", *ranks}
    assert result.best.score >= result.current.score
    assert result.current.values == {"align.content_components": 256, "align.neighbors": 200, "align.reranker": False}
    assert (result.confirmation is None) == (result.best is result.current)


def test_a_budget_that_is_spent_is_spent(searched):
    shop, _, result = searched
    again = shop.tune(minutes=60, trials=TRIALS)
    assert again.ran == 0
    assert again.trials == result.trials
    assert again.confirmation == result.confirmation
    assert shop.tune(minutes=result.spent, trials=99).ran == 0, "another one would end after the budget"


def test_a_killed_search_goes_on_to_the_same_end(searched, trained, tmp_path, warm):
    _, _, whole = searched
    shop = opened(trained, tmp_path)
    killed = warm.run(CHILD, shop.catalogue, shop.workspace, TRIALS, 1, cwd=tmp_path)
    assert killed.returncode == -9, killed.stderr
    work = next((shop.workspace / FOLDER).glob("*/work"))
    assert (work / "alignment").is_dir()
    found = shop.tune(minutes=60, trials=TRIALS)
    assert found.ran == TRIALS - 1
    assert [(one.values, one.score) for one in found.trials] == [(one.values, one.score) for one in whole.trials]
    assert found.confirmation == whole.confirmation
    assert not work.exists()


def test_other_data_or_settings_are_another_study(searched, tmp_path):
    shop, _, result = searched
    other = tmp_path / "other.toml"
    other.write_text(QUICK + "seed = 1\n", "utf-8")
    found = molar.Shop(shop.catalogue, shop.workspace, other).tune(minutes=60, trials=1)
    assert found.folder != result.folder
    assert found.ran == 1
    other.write_text(QUICK.replace("threads = 1", "threads = 2"), "utf-8")
    assert molar.Shop(shop.catalogue, shop.workspace, other).tune(minutes=60, trials=TRIALS).folder == result.folder


SPACE = (
    SearchParameter("align", "dropout", 0.2, low=0.0, high=0.5),
    SearchParameter("align", "n_blocks", 2, low=1, high=3, step=1),
)


def test_a_trial_that_falls_behind_ends_early(tmp_path):
    study = SettingsStudy(tmp_path, SPACE, seed=0)
    for number in range(4):
        trial = study.begin()
        assert not any(trial.worse(epoch, 0.1 * number + epoch / 100) for epoch in (1, 2, 3))
        trial.end(0.1 * number, 1.0)
    assert not study.begin().worse(1, 0.0), "one epoch says little"
    late = study.begin()
    late.worse(1, 0.0)
    assert late.worse(2, 0.01)
    late.end(None, 1.0)
    assert study.trials[-1].state == "pruned"
    assert not any(one.state == "pruned" for one in study.trials[:-1])
    assert study.trials[0].values == {"align.dropout": 0.2, "align.n_blocks": 2}


def test_what_kills_its_process_again_and_again_is_passed_over(tmp_path):
    study = SettingsStudy(tmp_path, SPACE, seed=0)
    for _ in range(4):
        assert study.begin().values == {"align.dropout": 0.2, "align.n_blocks": 2}, "the first is never passed over"
        study = SettingsStudy(tmp_path, SPACE, seed=0)
    study.begin().end(0.1, 1.0)
    deadly = study.begin()
    deadly.interrupt()
    for _ in range(3):
        assert study.begin().values == deadly.values
        study = SettingsStudy(tmp_path, SPACE, seed=0)
    assert study.begin().values != deadly.values
    (_, passed) = study.trials
    assert (passed.state, passed.values) == ("passed over", deadly.values)
    assert "killed 3 times" in passed.note


def test_importance_finds_what_mattered(tmp_path):
    study = SettingsStudy(tmp_path, SPACE, seed=0)
    for number in range(12):
        assert study.importance() == {} or number >= 10
        trial = study.begin()
        trial.end(float(trial.values["align.dropout"]), 1.0)
    shares = study.importance()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["align.dropout"] > 0.8


class Epochs(Notes):
    """Which epochs are trained."""

    def start(self, task, total):
        if task.startswith("epoch"):
            self.notes.append(task)


def test_a_trial_goes_on_from_its_last_epoch_and_leaves_nothing_when_it_is_pruned(trained, tmp_path):
    settings = MolarSettings.model_validate({"align": {"preset": "fast", **SMALL_ALIGNMENT}})
    place = copy_workspace(trained.workspace, tmp_path / ".molar", symlinks=True)
    trained_epochs, told = Epochs(), []

    def interrupted(score):
        if score.epoch == 2:
            raise KeyboardInterrupt
        return False

    with pin(Workspace(place), "catalogue", "content", "interactions", work="molar tune") as read:
        with pytest.raises(KeyboardInterrupt):
            TrialWorkspace(tmp_path, read, halves(read, settings.split)).run(settings, interrupted, trained_epochs)
        trial = TrialWorkspace(tmp_path, read, halves(read, settings.split))
        with pytest.raises(PrunedError):
            trial.run(settings, lambda score: told.append(score.epoch) or len(told) == 3, trained_epochs)
    assert told == [1, 2, 3]
    assert trained_epochs.notes == ["epoch 1", "epoch 2", "epoch 3"]
    assert trial.workspace["alignment"].partials() == []
    trial.clear()
    assert not (tmp_path / "work").exists()


def test_settings_that_do_not_train_are_told(searched, tmp_path, monkeypatch):
    shop, _, result = searched
    other = tmp_path / "other.toml"
    other.write_text(QUICK + "seed = 2\n", "utf-8")
    left = result.folder / "work"
    left.mkdir()

    def diverged(place, settings, told, progress):
        assert not left.exists(), "what another study had left to go on with is gone"
        raise PrunedError

    monkeypatch.setattr(TrialWorkspace, "run", diverged)
    for _ in range(2):
        with pytest.raises(DataError, match="no numbers"):
            molar.Shop(shop.catalogue, shop.workspace, other).tune()


def result_of(confirmation, tmp_path):
    values = {"align.dropout": 0.2}
    trials = [TuningTrial(0, "complete", values, 0.1, [0.05, 0.08], 60.0)]
    trials += [TuningTrial(1, "pruned", values | {"align.dropout": 0.4}, None, [0.01], 20.0)]
    trials += [TuningTrial(2, "complete", values | {"align.dropout": 0.3}, 0.12, [], 60.0)]
    changes = {"align": {"dropout": 0.3, "preset": "fast"}}
    return TuningResult(tmp_path, trials, 3, 500, 2.5, 60.0, {"align.dropout": 1.0}, confirmation, changes)


BETTER = Confirmation(500, 0.1, 0.11, 0.002, 0.018, 0.004)


def test_only_what_holds_for_others_is_recommended(tmp_path):
    assert result_of(BETTER, tmp_path).recommended
    for luck in (replace(BETTER, p=0.06), replace(BETTER, best=0.09, p=0.001)):
        assert not result_of(luck, tmp_path).recommended
    found = result_of(BETTER, tmp_path)
    assert headline(found) == "Other settings are better"
    assert lines_of(found.changes) == ["[align]", "dropout = 0.3", 'preset = "fast"']
    assert "+0.0100" in sentences(found)[-1]
    assert "not significantly better" in sentences(result_of(replace(BETTER, p=0.06), tmp_path))[-1]


def test_a_confirmation_is_that_of_the_ranks_of_both(searched, monkeypatch):
    shop, _, _ = searched
    count = len(halves(Workspace(shop.workspace), SplitSettings()).confirm)
    ranks = {0: np.full(count, 30), 1: np.where(np.arange(count) % 2, 1, 30)}
    monkeypatch.setattr("molar_eval.tuning.search.remembered", lambda folder, number: ranks[number])
    monkeypatch.setattr("molar_eval.tuning.search.best_of", lambda trials: trials[1])
    monkeypatch.setattr("molar_eval.tuning.search.forget", lambda folder, *kept: None)
    said = shop.tune(minutes=60, trials=TRIALS).confirmation
    assert said.current == 0
    assert said.best == pytest.approx((count // 2) / count)
    assert said.holds
    assert said.low > 0


def test_the_command_writes_what_holds_and_keeps_comments(searched, tmp_path, monkeypatch):
    shop, _, _ = searched
    place = shop.workspace.parent / "molar.toml"
    found = result_of(BETTER, tmp_path)
    monkeypatch.setattr("molar_eval.tuning.search.tune", lambda *_, **__: found)
    try:
        asked = ["tune", "--workspace", str(shop.workspace), "--write", "--json"]
        said = json.loads(CliRunner().invoke(app, asked).stdout)
        assert said["written"] == str(place)
        assert said["recommended"]
        assert place.read_text("utf-8") == QUICK.replace('"instant"', '"fast"') + "dropout = 0.3\n"
        place.write_text(QUICK, "utf-8")
        found = result_of(replace(BETTER, p=0.5), tmp_path)
        done = CliRunner().invoke(app, asked[:-1])
        assert place.read_text("utf-8") == QUICK
        assert "nothing was written" in done.stdout
    finally:
        place.write_text(QUICK, "utf-8")


def test_what_cannot_be_searched_is_an_error(searched, tmp_path, monkeypatch):
    shop, _, _ = searched
    with pytest.raises(SettingsError, match="no time"):
        shop.tune(minutes=0)
    noisy = tmp_path / "noisy.toml"
    noisy.write_text("[privacy]\nepsilon = 4.0\n", "utf-8")
    with pytest.raises(SettingsError, match="without noise"):
        molar.Shop(shop.catalogue, shop.workspace, noisy).tune()
    place = Workspace(shop.workspace)
    with place.lock(FOLDER), pytest.raises(DataError, match="another process is tuning"):
        tune(place, shop.settings, minutes=1)
    there = importlib.util.find_spec
    monkeypatch.setattr("molar_eval.tuning.search.find_spec", lambda name: None if name == "optuna" else there(name))
    with pytest.raises(BackendError) as error:
        shop.tune()
    assert error.value.exit_code == 4
    assert "pip install 'molar-retrieval[tune]'" in error.value.hint


def test_a_search_is_among_the_copies_that_grow_old(searched):
    from molar_retrieval.privacy.retention import retained_copies

    shop, _, result = searched
    assert result.folder in [one.path for one in retained_copies(Workspace(shop.workspace)) if one.what == "evaluation"]


def test_what_every_trial_says_is_said_once():
    told = Notes()
    once = ToldOnce(told)
    for message in ("memory is short", "a pair is left out", "memory is short"):
        once.note(message)
    assert told.notes == ["memory is short", "a pair is left out"]
