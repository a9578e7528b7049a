"""Towers trained on from a former model: better or refused, cheap, and as if never killed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from copies import copy_workspace
from safetensors.numpy import load_file, save_file

from molar_retrieval.alignment import warm_start as module
from molar_retrieval.alignment.store import open_model
from molar_retrieval.alignment.user_encoder import FILE
from molar_retrieval.alignment.warm_start import warm_start
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace import Workspace


@pytest.fixture
def workspace(trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / "work")
    return Workspace.open(tmp_path / "work")


def weaken(workspace):
    """Spoil the item table of the live alignment, so that there is something to learn."""
    folder, manifest = workspace["alignment"].require()
    tensors = load_file(folder / FILE)
    name = "network.items.collaborative.weight"
    noise = np.random.default_rng(0).standard_normal(tensors[name].shape).astype(np.float32)
    tensors[name] = tensors[name] + tensors[name].std() * noise
    save_file(tensors, folder / FILE)
    return folder, manifest


@pytest.fixture
def more(monkeypatch):
    """A warm start that may read as much as a training."""
    monkeypatch.setattr(module, "_READ", 2.0)
    monkeypatch.setattr(module, "_LEAST_REPLAYED", 1.0)
    monkeypatch.setattr(module, "_RATE", 1.0)


def test_towers_go_on_and_the_rest_stays(workspace, more):
    former, before = weaken(workspace)
    found = warm_start(workspace, threads=1)
    assert found.better
    assert found.after > found.before
    folder, manifest = workspace["alignment"].require()
    assert folder == found.folder != former
    assert not former.exists()
    assert manifest.inputs == before.inputs
    assert manifest.facts["weights"] == before.facts["weights"]
    assert manifest.facts["warm"]["after"] == found.after
    assert not list(folder.glob("*checkpoint*"))
    now = open_model(folder)
    assert {one.name for one in now.item_item} <= set(before.facts["weights"])
    assert now.users(open_log(workspace), np.arange(5)).dense.shape[0] == 5


def test_where_it_would_be_worse_nothing_changes(workspace, monkeypatch):
    before = workspace["alignment"].require()

    def files():
        told = ("manifest.json", "files.json")
        return {p: p.read_bytes() for p in before[0].rglob("*") if p.is_file() and p.name not in told}

    kept = files()
    monkeypatch.setattr(module, "_RATE", 500.0)
    found = warm_start(workspace, threads=1)
    assert not found.better
    assert found.after <= found.before
    assert workspace["alignment"].require()[0] == found.folder == before[0]
    assert files() == kept
    told = workspace["alignment"].require()[1]
    assert told.fingerprint == before[1].fingerprint
    assert told.facts["warm"]["better"] is False
    assert workspace["alignment"].partials() == []


def test_a_killed_run_goes_on_to_the_same_weights(workspace, more, tmp_path, trained):
    weaken(workspace)
    copy_workspace(trained.workspace, tmp_path / "other")
    other = Workspace.open(tmp_path / "other")
    weaken(other)
    whole = open_model(warm_start(other, threads=1).folder)

    def killed(score):
        if score.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start(workspace, threads=1, on_epoch=killed)
    epochs = []
    continued = open_model(warm_start(workspace, threads=1, on_epoch=lambda s: epochs.append(s.epoch)).folder)
    assert epochs == [1, 2]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, continued.network.state_dict()[name]), name


def test_an_alignment_of_another_log_is_refused(workspace):
    folder, manifest = workspace["alignment"].require()
    replace(manifest, inputs={**manifest.inputs, "interactions": "another"}).write(folder)
    with pytest.raises(StaleArtefactError, match="present"):
        warm_start(workspace)
