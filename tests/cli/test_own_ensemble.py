"""A model of the user's own that gives vectors enters the ensemble, is published, served and brought up to date."""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from test_own_model import installed
from web_server import program

import molar
from molar_retrieval.data.interactions import to_csr
from molar_retrieval.models.als import open_log
from molar_retrieval.models.incremental import warm_start
from molar_retrieval.models.own_block import digests
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.inference import UserEncoder

MODULE = '''
import numpy as np

class Axes:
    """Items that the same people took, along the principal axes of the log."""

    name = "axes"
    stochastic = False

    def __init__(self, dim=8):
        self.dim = dim

    def fit(self, data):
        _, _, axes = np.linalg.svd(data.interactions.matrix().toarray(), full_matrices=False)
        self.axes = np.ascontiguousarray(axes[: self.dim].T, np.float32)
        return self

    def item_vectors(self):
        return self.axes

    def user_vectors(self, histories):
        return histories.matrix() @ self.axes

    def score(self, histories):
        return self.user_vectors(histories) @ self.axes.T

    def to_arrays(self):
        return {"axes": self.axes}

    @classmethod
    def from_arrays(cls, arrays):
        model = cls(arrays["axes"].shape[1])
        model.axes = arrays["axes"]
        return model


class Counting:
    name = "counting"

    def fit(self, data):
        return self

    def score(self, histories):
        return np.zeros((len(histories), histories.n_items))


class Named(Axes):
    name = "content_tower"


class Nan(Axes):
    name = "nan"

    def user_vectors(self, histories):
        return super().user_vectors(histories) * np.nan
'''
NAMES = {"axes": "Axes", "counting": "Counting", "content_tower": "Named", "nan": "Nan"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder in which a package with these models is installed."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        installed(folder, patched, "own_vectors", MODULE, **NAMES)
        yield folder


@pytest.fixture(scope="module")
def shop(package, tmp_path_factory):
    """A shop whose ensemble has the model."""
    folder = tmp_path_factory.mktemp("shop")
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SMALL_ALIGNMENT, "epochs": 1}.items()]
    (folder / "molar.toml").write_text("\n".join(["[align]", *lines]))
    made = molar.demo(folder / "made", items=80, users=300)
    shop = molar.Shop(made.facts.folder, folder / ".molar", folder / "molar.toml")
    shop.embed()
    shop.align(models=["axes"])
    return shop


def session(shop, items):
    """What somebody gets of whom only these items are known."""
    with shop.recommender() as recommender:
        return recommender.query(session=items, explain=True)


@pytest.fixture
def alignment(shop):
    """The folder and the manifest of what is live."""
    return shop.opened()["alignment"].require()


def own_vectors():
    """The installed module."""
    return importlib.import_module("own_vectors")


def test_validation_weighs_it_as_another_part(alignment):
    folder, manifest = alignment
    model, weights = open_model(folder), manifest.facts["weights"]
    assert (manifest.facts["own"], [one.name for one in model.own]) == (["axes"], ["axes"])
    assert weights["axes"] > 0
    assert manifest.facts["scores"]["axes"]["ndcg@10"] > 0
    assert "axes" in [part.name for part in model.dense_parts]


def test_what_ships_is_fitted_on_the_whole_log(shop, alignment):
    log = open_log(shop.opened())
    _, _, axes = np.linalg.svd(to_csr(log).toarray(), full_matrices=False)
    (own,) = open_model(alignment[0]).own
    np.testing.assert_allclose(own.items @ own.items.T, axes[:8].T @ axes[:8], atol=1e-4)


def test_vectors_without_torch_are_those_of_the_model(shop, alignment):
    model, log, rows = open_model(alignment[0]), open_log(shop.opened()), np.arange(20)
    found = UserEncoder.open(alignment[0]).users(log, rows).dense
    np.testing.assert_allclose(found, model.dense_users(log, rows), atol=1e-4)


def test_it_answers_users_and_sessions_and_tells_its_part_of_a_score(shop):
    history = [item.item_id for item in shop.query("u0001", k=3).items]
    for answer in (shop.query("u0001", explain=True), session(shop, history)):
        assert len(answer.items) == 10
        assert any(item.parts.get("axes") for item in answer.items)
        for item in answer.items:
            assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
            assert item.reasons


def test_the_server_answers_with_it(shop, package, tmp_path):
    workspace = copy_workspace(shop.workspace, tmp_path / ".molar")
    expected = [item.item_id for item in shop.query("u0001", k=5).items]
    path = os.pathsep.join([str(package), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with program(workspace, PYTHONPATH=path) as server, server.client() as client:
        answer = client.get("/v1/recommendations", params={"user_id": "u0001", "k": 5, "explain": True}).json()
        assert [item["item_id"] for item in answer["items"]] == expected
        assert any(item["parts"].get("axes") for item in answer["items"])
        bought = {"event_id": "e1", "event": "purchase", "user_id": "u0001", "items": [{"item_id": expected[0]}]}
        seq = client.post("/v1/events", json=bought).json()["seq"]
        after = client.get("/v1/recommendations", params={"user_id": "u0001", "k": 5, "wait_for": seq}).json()
        assert expected[0] not in [item["item_id"] for item in after["items"]]


def test_another_process_finds_it_by_its_name_and_does_without_torch(shop, package):
    history = [item.item_id for item in shop.query("u0001", k=3).items]
    code = (
        f"import sys, molar\nwith molar.Shop(None, {str(shop.workspace)!r}).recommender() as recommender:\n"
        f"    print([item.item_id for item in recommender.query(session={history}).items], 'torch' in sys.modules)"
    )
    path = os.pathsep.join([str(package), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{[item.item_id for item in session(shop, history).items]} False"


def test_without_the_package_it_says_which_model_is_missing(shop, package, monkeypatch):
    history = [item.item_id for item in shop.query("u0001", k=3).items]
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(package)])
    with pytest.raises(molar.MolarError, match="no installed package brings a model 'axes'"):
        session(shop, history)


def test_the_same_is_up_to_date_and_another_object_is_refused(shop):
    assert shop.align(models=[own_vectors().Axes()]).report.up_to_date
    with pytest.raises(molar.MolarError, match="not what its entry point brings"):
        shop.align(models=[own_vectors().Axes(dim=3)])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("counting", "has no item_vectors and user_vectors and to_arrays and from_arrays: an index finds items by"),
        ("content_tower", "'content_tower' is a part of the score already"),
        ("nan", "user_vectors returned an array"),
        ("missing", "no installed package brings a model 'missing'"),
    ],
)
def test_what_cannot_enter_is_refused(shop, name, words):
    with pytest.raises(molar.MolarError, match=words):
        shop.align(models=[name])


@pytest.mark.parametrize(("line", "words"), [("min_users = 5", "fewer than 5 people"), ("epsilon = 4", "with noise")])
def test_it_promises_no_privacy(shop, tmp_path, line, words):
    (tmp_path / "molar.toml").write_text(f'[align]\nown_models = ["axes"]\n[privacy]\n{line}\n')
    with pytest.raises(molar.MolarError, match=words):
        molar.Shop(shop.catalogue, shop.workspace, tmp_path / "molar.toml").align()


def test_no_device_runs_it(shop, tmp_path):
    with pytest.raises(molar.MolarError, match="a device cannot run a model of your own: axes"):
        shop.export_device(tmp_path / "device")


def test_molar_is_evaluated_with_it(shop, tmp_path):
    suite = 'description = "small"\nmodels = ["molar"]\nresamples = 100\nexamples = 0\nindex = false\n[[splits]]\n'
    (tmp_path / "small.toml").write_text(suite + 'split = "temporal"\n')
    (tmp_path / "molar.toml").write_text(shop.settings_file.read_text() + '\nown_models = ["axes"]\n')
    whole = molar.Shop(shop.catalogue, shop.workspace, tmp_path / "molar.toml")
    (model,) = whole.evaluate(str(tmp_path / "small.toml")).report.splits[0].models
    assert "axes" in model.facts["weights"]
    assert model.settings["own_models"] == digests(["axes"])


def test_an_update_fits_it_again(shop, alignment):
    before = np.array(open_model(alignment[0]).own[0].items)
    (file,) = shop.catalogue.glob("interactions.*")
    table = pd.read_parquet(file)
    other = shop.query("u0002").items[0].item_id
    table.assign(item_id=table["item_id"].where(table.index != 7, other)).to_parquet(file)
    shop.update()
    folder, manifest = shop.opened()["alignment"].require()
    after = open_model(folder).own[0].items
    assert manifest.facts["derived"]["recounted"]
    assert not np.array_equal(before, after)


def test_a_warm_start_weighs_it_again(shop, monkeypatch):
    monkeypatch.setattr("molar_retrieval.models.incremental._ENOUGH", 10)
    before = np.array(open_model(shop.opened()["alignment"].require()[0]).own[0].items)
    report = warm_start(shop.opened(), threads=1)
    model = open_model(report.folder)
    assert report.weighted
    assert "axes" in model.weights
    np.testing.assert_array_equal(model.own[0].items, before)
