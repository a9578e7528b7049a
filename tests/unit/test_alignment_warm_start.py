"""Towers trained on from a former model: better or refused, cheap, and as if never killed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from copies import copy_workspace
from safetensors.numpy import load_file, save_file

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models import incremental as module
from molar_retrieval.models.als import held_out, open_log
from molar_retrieval.models.drift import Reason, new_share, reason
from molar_retrieval.models.incremental import warm_start
from molar_retrieval.models.objectives import choose
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.ranking.objectives import FUTURE_ITEMS, NEXT_ITEM, NEXT_ITEM_SEEN
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import SplitSettings, UpdateSettings


@pytest.fixture
def workspace(trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / "work")
    return Workspace.open(tmp_path / "work")


def weaken(workspace):
    """Spoil the item sides of the live alignment's towers, so that there is something to learn."""
    folder, manifest = workspace["alignment"].require()
    tensors = load_file(folder / FILE)
    for name in ("network.items.id_tower.weight", "network.items.content_tower.project.weight"):
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


@pytest.fixture
def enough(monkeypatch):
    """As if validation had enough cases to choose weights by."""
    monkeypatch.setattr(module, "_ENOUGH", 1)


def test_where_validation_has_few_cases_towers_alone_go_on(workspace, more):
    _, before = weaken(workspace)
    found = warm_start(workspace, threads=1)
    assert found.better
    assert not found.weighted
    facts = workspace["alignment"].require()[1].facts
    for name in ("weights", "cold_start_weights", "slots", "shares", "reranking"):
        assert facts[name] == before.facts[name], name


def test_towers_go_on_and_weights_are_chosen_for_them(workspace, more, enough):
    former, before = weaken(workspace)
    found = warm_start(workspace, threads=1)
    assert found.better
    assert found.after > found.before
    folder, manifest = workspace["alignment"].require()
    assert folder == found.folder != former
    assert not former.exists()
    assert manifest.inputs == before.inputs
    assert manifest.facts["weights"] != before.facts["weights"], "chosen for the towers as they are now"
    assert manifest.facts["learned_until"] == held_out(workspace, SplitSettings()).training.timestamp.max()
    assert manifest.facts["warm"]["until"] == found.until == open_log(workspace).timestamp.max()
    assert manifest.facts["warm"]["after"] == found.after
    assert not list(folder.glob("*checkpoint*"))
    now = open_model(folder)
    assert {one.name for one in now.item_item} <= set(before.facts["weights"])
    assert now.users(open_log(workspace), np.arange(5)).dense.shape[0] == 5


def test_towers_that_would_be_worse_stay(workspace, monkeypatch):
    folder, before = workspace["alignment"].require()
    former = open_model(folder).network.state_dict()
    former = {name: tensor.clone() for name, tensor in former.items()}
    monkeypatch.setattr(module, "_RATE", 500.0)
    found = warm_start(workspace, threads=1)
    assert not found.better
    assert found.after <= found.before
    now, told = workspace["alignment"].require()
    assert now == found.folder != folder
    assert told.facts["warm"]["better"] is False
    assert told.facts["learned_until"] == before.facts["learned_until"], "what has come is new to them still"
    assert workspace["alignment"].partials() == []
    kept = open_model(now).network.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in former.items())
    assert reason(told.facts, UpdateSettings()) is None, "they are asked again when as much has come again"


def test_weights_are_chosen_by_what_has_not_been_counted(workspace, monkeypatch, enough):
    """Experts that have counted a validation case would be thought better than they are."""
    asked = []

    def watched(model, data, counts, *others):
        asked.append((data, counts))
        return choose(model, data, counts, *others)

    monkeypatch.setattr(module, "choose", watched)
    former = open_model(workspace["alignment"].require()[0])
    warm_start(workspace, threads=1)
    ((data, counts),) = asked
    log, cases = open_log(workspace), data.cases
    assert len(data.log) == len(log) - len(held_out(workspace, SplitSettings()))
    for user, target in zip(cases.users, cases.targets, strict=True):
        assert target not in data.log.history(user)
        assert log.history(user)[-1] == target
    shipped = {one.name: one.weights for one in open_model(workspace["alignment"].require()[0]).item_item}
    for one in counts.item_item:
        assert (one.weights != shipped[one.name]).nnz
    assert all((one.weights != shipped[one.name]).nnz == 0 for one in former.item_item), "all are counted that ship"


def test_weights_for_other_aims_stay(workspace, enough):
    folder, manifest = workspace["alignment"].require()
    objectives = {FUTURE_ITEMS.name: {"ease": 2.0, "id_tower": 0.0}, NEXT_ITEM_SEEN.name: {"popularity": 0.5}}
    replace(manifest, facts={**manifest.facts, "objectives": objectives, "objective": "next_item"}).write(folder)
    former = open_model(folder)
    warm_start(workspace, threads=1)
    now = open_model(workspace["alignment"].require()[0])
    assert now.weights_for(NEXT_ITEM) != former.weights_for(NEXT_ITEM)
    for objective in (FUTURE_ITEMS, NEXT_ITEM_SEEN):
        before, after = former.weights_for(objective), now.weights_for(objective)
        for part in before.keys() | after.keys():
            assert after.get(part, 0.0) == pytest.approx(before.get(part, 0.0)), (objective, part)


def test_towers_are_due_where_enough_has_come(workspace):
    facts = workspace["alignment"].require()[1].facts
    log = open_log(workspace)
    assert new_share(facts, log) < 0.01
    half = facts | {"learned_until": int(np.median(log.timestamp))}
    assert new_share(half, log) == pytest.approx(0.5, abs=0.01)
    assert new_share(half | {"warm": {"until": facts["learned_until"]}}, log) < 0.01
    for share, due in ((0.005, False), (0.01, True)):
        found = reason(facts | {"derived": {"predicted_hits": [], "new_share": share}}, UpdateSettings())
        assert found == (Reason(None, share) if due else None)
    assert reason(facts | {"derived": {"new_share": 0.5}}, UpdateSettings(retrain_threshold=None)) is None
    assert reason(facts | {"derived": {"new_share": 0.5}, "towers": []}, UpdateSettings()) is None, (
        "counting needs none"
    )


def test_a_killed_run_goes_on_to_the_same_weights(workspace, more, enough, tmp_path, trained):
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
    assert epochs == [1]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, continued.network.state_dict()[name]), name


def test_an_alignment_of_another_log_is_refused(workspace):
    folder, manifest = workspace["alignment"].require()
    replace(manifest, inputs={**manifest.inputs, "interactions": "another"}).write(folder)
    with pytest.raises(StaleArtefactError, match="present"):
        warm_start(workspace)
