"""`molar align` as a whole: what it reports is what it publishes, on a demo shop and on awkward logs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

from molar_retrieval.data.interactions import Holdout
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions, write_log
from molar_retrieval.embedding import embed
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.models import ease, item_item
from molar_retrieval.models.alignment import align, training_data
from molar_retrieval.models.als import factorise, has_users, held_out, open_log
from molar_retrieval.models.cold_start import model_ranks
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.inference import UserEncoder
from molar_retrieval.models.towers.training import TowerTrainer
from molar_retrieval.models.validation import means
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings, MolarSettings

PARTS = ("sequential", "ease", "content_knn", "popularity")
N = 50


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def demo(trained, tmp_path):
    """A workspace of one's own with the demo shop's content, nothing aligned."""
    copy_workspace(trained.workspace, tmp_path / ".molar", ignore=shutil.ignore_patterns("alignment", "generations"))
    return Workspace.open(tmp_path / ".molar")


def settings_of(folder, environ=None, **align_settings):
    return MolarSettings.load(
        folder.parent, environ=environ or {}, flags={"align": {**SMALL_ALIGNMENT, **align_settings}}
    )


def small(workspace, **align_settings):
    return settings_of(workspace.root, **align_settings)


def shop(folder, histories, *, times=True):
    """A prepared workspace for a log of item numbers; content tells who is whose neighbour on a circle."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"i{n}" for n in range(N)]
    pq.write_table(pa.table({"item_id": names, "title": [f"thing {n}" for n in range(N)]}), folder / "items.parquet")
    rows = [(f"u{u}", f"i{item}", 86_400 * (u % 40 + at)) for u, h in enumerate(histories) for at, item in enumerate(h)]
    columns = dict(zip(("user_id", "item_id", "timestamp"), zip(*rows, strict=True), strict=True))
    if not times:
        del columns["timestamp"]
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "interactions.parquet")
    angle = 2 * np.pi * np.arange(N) / N
    vectors = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], 1).astype(np.float32)
    table = pa.table({"item_id": names, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "vectors.parquet")
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    embed(workspace, EmbedSettings(), vectors=folder / "vectors.parquet")
    return workspace


@pytest.fixture
def walked(tmp_path):
    """A workspace in which everybody walks round most of a circle of items."""
    return shop(tmp_path / "shop", walks())


def walks(users=60, length=6, items=N - 5, seed=0):
    random = np.random.default_rng(seed)
    return [
        ((random.integers(items) + np.cumsum(random.integers(1, 3, length))) % items).tolist() for _ in range(users)
    ]


def check(workspace, settings, report):
    """What the report says of cases, parts and the whole is what the published model does."""
    split = held_out(workspace, settings.split)
    log, facts = split.training, report.facts
    known = np.isin(np.arange(log.n_items), log.item)
    assert facts["users"] == log.n_users
    assert facts["items"] == log.n_items
    assert facts["cold_items"] == log.n_items - len(set(log.item.tolist()))
    assert facts["training_interactions"] == len(log)
    assert facts["validation_cases"] == len(split)
    assert facts["cold_cases"] == sum(not known[target] for target in split.targets)
    model = open_model(report.folder).seeing(log)
    assert np.array_equal(model.known, known)
    assert not has_users(workspace["als"].require()[0])
    factorise(workspace, settings.als, settings.split, people=True)
    data, _ = training_data(workspace, settings.align, settings.split)
    assert means(model_ranks(model, data.cases)) == pytest.approx(report.scores["aligned"], abs=1e-3)
    popular = np.bincount(log.item, minlength=log.n_items)
    found = []
    for user, target in zip(split.users, split.targets, strict=True):
        rivals = np.setdiff1d(np.arange(log.n_items), log.history(user))
        found.append(int((popular[rivals] >= popular[target]).sum()))
    assert report.scores["total_popularity"] == means(np.array(found, np.int64))
    assert set(report.scores) == {"total_popularity", "als", "aligned", *facts["weights"]}
    if facts["slots"] and len(split):
        best = max(s["ndcg@10"] for name, s in report.scores.items() if name in facts["weights"])
        assert report.scores["aligned"]["ndcg@10"] >= best - 1e-9
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()
    return model


@pytest.mark.slow
def test_instant_counts_without_training(demo):
    settings = small(demo, preset="instant")
    report = align(demo, settings)
    assert not report.up_to_date
    model = check(demo, settings, report)
    assert set(report.facts["weights"]) == set(report.facts["models"]) == set(PARTS)
    assert (report.facts["best_epoch"], report.curve) == (0, [])
    assert not list(model.network.parameters())
    assert {p.name for p in model.item_item} == {"sequential", "ease"}
    assert {f.name for f in report.folder.iterdir()} == {"files.json", "model.safetensors", "manifest.json", "seen"}
    assert report.scores["aligned"]["ndcg@10"] > report.scores["total_popularity"]["ndcg@10"]
    again = align(demo, settings)
    assert again.up_to_date
    assert replace(again, up_to_date=False).to_dict() == report.to_dict()
    elsewhere = align(demo, small(demo, preset="instant", threads=2, device="auto"))
    assert elsewhere.up_to_date, "threads and device change no result"
    assert not align(demo, small(demo, preset="instant", seed=1)).up_to_date
    assert not align(demo, small(demo, preset="instant"), restart=True).up_to_date


@pytest.mark.slow
def test_towers_and_experts_together(demo):
    settings = small(demo)
    curve = []
    report = align(demo, settings, on_epoch=curve.append)
    check(demo, settings, report)
    assert set(report.facts["weights"]) == {*PARTS, "id_tower", "content_tower"}
    assert report.curve == curve
    assert [score.epoch for score in curve] == [1, 2, 3]
    best = max(curve, key=lambda score: score.ndcg)
    assert report.facts["best_epoch"] == best.epoch
    for tower in ("id_tower", "content_tower"):
        assert report.scores[tower]["ndcg@10"] == pytest.approx(best.towers[tower], abs=1e-9)
    again = align(demo, settings)
    assert again.up_to_date
    assert again.curve == curve
    assert {f.name for f in report.folder.iterdir()} == {"files.json", "model.safetensors", "manifest.json", "seen"}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_run_publishes_nothing_and_goes_on_to_the_same_bits(walked, tmp_path, monkeypatch, after):
    copy_workspace(walked.root, tmp_path / "other" / ".molar")
    other = Workspace.open(tmp_path / "other" / ".molar")
    undisturbed = align(other, small(other))

    def kill(self, progress):
        if len(self.state.scores) == after:
            raise Killed
        return round_(self, progress)

    def dead(*arguments, **options):
        raise Killed

    round_ = TowerTrainer.round
    monkeypatch.setattr(TowerTrainer, "round", kill)
    monkeypatch.setattr(
        "molar_retrieval.models.alignment.count_models", dead
    )  # killed after the last epoch, if not before
    with pytest.raises(Killed):
        align(walked, small(walked))
    monkeypatch.undo()
    assert walked["alignment"].current is None
    assert len(list(walked.root.glob("alignment/*.partial/checkpoint.safetensors"))) == (after > 0)
    report = align(walked, small(walked))
    models = [(r.folder / "model.safetensors").read_bytes() for r in (undisturbed, report)]
    assert models[0] == models[1]
    assert report.scores == undisturbed.scores
    assert report.facts | {"seconds": 0, "models": 0} == undisturbed.facts | {"seconds": 0, "models": 0}
    assert not list(walked.root.glob("alignment/*.partial"))


@pytest.mark.parametrize(
    "step",
    [
        "objectives.blend",
        "objectives.with_cold_start",
        "alignment.save",
        "alignment.described",
        "alignment.library_versions",
    ],
)
def test_killed_after_the_last_epoch_nothing_is_trained_again(walked, monkeypatch, step):
    def dead(*arguments, **options):
        raise Killed

    monkeypatch.setattr(f"molar_retrieval.models.{step}", dead)
    with pytest.raises(Killed):
        align(walked, small(walked))
    monkeypatch.undo()
    assert walked["alignment"].current is None
    monkeypatch.setattr(TowerTrainer, "round", dead)
    report = align(walked, small(walked))
    assert sorted(file.name for file in report.folder.iterdir()) == [
        "files.json",
        "manifest.json",
        "model.safetensors",
        "seen",
    ]


def test_restarting_forgets_what_was_left(walked, monkeypatch):
    begun = []

    def kill(self, progress):
        begun.append(len(self.state.scores))
        if begun[-1] == 1:
            raise Killed
        return round_(self, progress)

    round_ = TowerTrainer.round
    monkeypatch.setattr(TowerTrainer, "round", kill)
    for restart in (False, False, True):
        with pytest.raises(Killed):
            align(walked, small(walked), restart=restart)
    assert begun == [0, 1, 1, 0, 1]


def test_nothing_to_score_with_is_an_error_and_publishes_nothing(walked):
    with pytest.raises(SettingsError, match="no model is left") as caught:
        align(walked, small(walked, models=("repeat_consumption",)))
    assert "models" in caught.value.hint
    assert walked["alignment"].current is None


@pytest.mark.parametrize("towers", ["content_tower", "id_tower", ""])
def test_towers_from_the_environment(walked, towers):
    settings = settings_of(walked.root, {"MOLAR_ALIGN_MODELS": f"{towers},ease"}, epochs=1)
    report = align(walked, settings)
    model = check(walked, settings, report)
    names = {towers} - {""}
    assert set(model.network.shapes) == names
    assert set(report.facts["weights"]) == {*names, "ease"}


def test_an_ensemble_of_towers_is_published_as_one_longer_vector(walked):
    settings = settings_of(walked.root, {"MOLAR_ALIGN_MEMBERS": "2"}, epochs=1)
    report = align(walked, settings)
    model = check(walked, settings, report)
    assert report.facts["sizes"]["members"] == 2
    assert model.network.shapes["id_tower"].dim == 2 * settings.align.embedding_dim
    encoder, log = UserEncoder.open(report.folder), open_log(walked)
    rows = np.arange(log.n_users)
    np.testing.assert_allclose(encoder.users(log, rows).dense, model.dense_users(log, rows), atol=1e-4)


@pytest.mark.parametrize("preset", ["instant", "default"])
def test_a_log_without_times(tmp_path, preset):
    workspace = shop(tmp_path, walks(), times=False)
    settings = small(workspace, preset=preset, epochs=1)
    assert not open_log(workspace).timestamp.any()
    report = align(workspace, settings)
    model = check(workspace, settings, report)
    counts = np.bincount(held_out(workspace, settings.split).training.item, minlength=N)
    np.testing.assert_allclose(model.popularity.now(), np.log(counts + 0.05), rtol=1e-5)
    assert report.scores["popularity"]["ndcg@10"] == pytest.approx(
        report.scores["total_popularity"]["ndcg@10"], abs=1e-9
    )
    assert report.facts["cold_items"] == 5


def test_users_with_several_validation_cases(tmp_path):
    """As on a day of shopping: all that is new to a user on the last day is asked for, at the time of that day."""
    workspace = shop(tmp_path, walks())
    whole = open_log(workspace)
    last = whole.offsets[1:] - 1
    keep = np.ones(len(whole), bool)
    keep[last] = keep[last - 1] = False
    users = np.repeat(np.arange(whole.n_users), 2)
    targets = np.stack([whole.item[last - 1], whole.item[last]], 1).ravel()
    times = np.repeat(whole.timestamp[last - 1], 2)
    held = Holdout(whole.select(keep), users.astype(np.int32), targets, times)
    write_log(workspace, held, {})
    for preset in ("instant", "default"):
        settings = small(workspace, preset=preset, epochs=2)
        report = align(workspace, settings)
        check(workspace, settings, report)
        assert report.facts["validation_cases"] == 2 * whole.n_users
        assert report.scores["aligned"]["ndcg@10"] > 2 * report.scores["total_popularity"]["ndcg@10"]


def test_among_very_many_items_fewer_cases_are_ranked(walked, monkeypatch):
    settings = MolarSettings()
    factorise(walked, settings.als, settings.split)
    every = training_data(walked, settings.align, settings.split)[0].cases
    monkeypatch.setattr("molar_retrieval.models.validation._FEWEST", 5)
    monkeypatch.setattr("molar_retrieval.models.validation._RANKED", 20 * len(every.candidates))
    some = training_data(walked, settings.align, settings.split)[0].cases
    assert (len(every), len(some)) == (60, 20)
    assert {*zip(some.users, some.targets, strict=True)} < {*zip(every.users, every.targets, strict=True)}


@pytest.mark.parametrize("preset", ["instant", "default"])
def test_a_log_in_which_nobody_can_be_asked(tmp_path, preset):
    workspace = shop(tmp_path, walks(length=2))
    settings = small(workspace, preset=preset, epochs=1)
    report = align(workspace, settings)
    check(workspace, settings, report)
    assert report.facts["validation_cases"] == 0
    assert any(report.facts["weights"].values()), "it can be queried all the same"


def test_a_log_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    workspace = shop(tmp_path, walks(3))
    empty = open_log(workspace).select(np.zeros(18, bool))
    write_log(workspace, empty, {})
    with pytest.raises(DataError):
        align(workspace, small(workspace))
    assert workspace["alignment"].current is None


def test_room_for_newcomers_is_as_set(tmp_path):
    workspace = shop(tmp_path, walks())
    for share, count in ((0.0, 0), (0.4, 4)):
        settings = small(workspace, preset="instant", cold_start_share=share)
        report = align(workspace, settings)
        assert len(report.facts["slots"]) == count
        assert open_model(report.folder).slots == tuple(report.facts["slots"])


@pytest.mark.parametrize("little", [1, 1000])
def test_a_very_large_log_is_not_counted_again_for_the_little_that_validation_held_out(tmp_path, monkeypatch, little):
    monkeypatch.setattr(item_item, "MOST_PAIRS", 10)
    monkeypatch.setattr(ease, "MAX_ITEMS", 10)
    monkeypatch.setattr("molar_retrieval.models.carry_over._LITTLE", little)
    workspace = shop(tmp_path, walks())
    before = open_model(align(workspace, small(workspace, models=("sequential", "ease", "item_knn"))).folder)
    report = refresh(workspace)
    after = open_model(report.folder)
    pairs = zip(before.item_item, after.item_item, strict=True)
    differ = [(one.weights != other.weights).nnz > 0 for one, other in pairs]
    assert len(differ) == 2
    assert not any(differ) if little == 1 else all(differ)
    assert report.facts["recounted"] == (little != 1)
    assert report.facts["interactions"] == len(open_log(workspace))
    assert after.known.sum() >= before.known.sum()
