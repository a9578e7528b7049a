"""A model that was saved and opened is the same, with any tower and any expert missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_tasks import EXPERTS, TOWERS, N, model_of, settings_of, training_log
from eval_model_tasks import log_of

from molar_retrieval.models.content_knn import compressed
from molar_retrieval.models.store import described, open_model, save
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.workspace.artefacts import Manifest

KINDS = {
    "everything": (TOWERS, EXPERTS),
    "no towers at all": ((), EXPERTS),
    "no count models": (TOWERS, ()),
    "one tower": (("id_tower",), ()),
    **{f"without {tower}": (tuple(t for t in TOWERS if t != tower), EXPERTS) for tower in TOWERS},
    **{f"without {expert}": (TOWERS, tuple(e for e in EXPERTS if e != expert)) for expert in EXPERTS},
    **{f"only {expert}": ((), (expert,)) for expert in EXPERTS},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def round_trip(model, towers, folder):
    save(model, folder)
    sections = {"align": settings_of(towers).model_dump(mode="json")}
    Manifest("alignment", "f", settings=sections, facts=described(model)).write(folder)
    return open_model(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_as_it_was(kind, tmp_path):
    towers, counts = KINDS[kind]
    model = model_of(towers, counts)
    back = round_trip(model, towers, tmp_path)
    seen, asked = training_log(), log_of([[1, 2, 3], [], [7, 7, 9, 20, 21, 22, 23, 24]], N)
    asked = replace(asked, asked_at=seen.timestamp[[3, 9, -1]])
    rows = np.array([2, 0, 1])
    users, items = ([one.users(asked, rows) for one in (model, back)], [one.items(seen) for one in (model, back)])
    sparse = [one.sparse for one in users], [one.neighbors.whole() for one in items]
    for pair in (users, items):
        assert np.array_equal(*(one.dense for one in pair))
    for left, right in sparse:
        assert left.shape == right.shape
        assert (left != right).nnz == 0
    one, other = (m.seeing(seen) for m in (model, back))
    assert np.array_equal(one.scores(asked), other.scores(asked))
    allowed = np.ones((3, N), bool)
    assert np.array_equal(one.lifted(one.scores(asked), allowed), other.lifted(other.scores(asked), allowed))
    assert (back.dense_parts, back.sparse_parts) == (model.dense_parts, model.sparse_parts)
    assert (back.half_life, back.slots) == (model.half_life, model.slots)
    assert (dict(back.weights), dict(back.cold_start_weights)) == (dict(model.weights), dict(model.cold_start_weights))
    assert not back.network.training


@pytest.mark.parametrize("taught", [True, False])
def test_what_people_taught_content_comes_back(tmp_path, taught):
    model = model_of(TOWERS, EXPERTS)
    axes = np.random.default_rng(0).normal(size=(model.features.shape[1], 3)).astype(np.float32)
    neighbours = replace(model.content_knn, items=compressed(model.features, axes), axes=axes if taught else None)
    back = round_trip(replace(model, content_knn=neighbours, content_knn_axes=axes), TOWERS, tmp_path)
    assert np.array_equal(back.content_knn.items, neighbours.items)
    assert np.array_equal(back.content_knn_axes, axes)
    assert (back.content_knn.axes is not None) == taught, "axes that are kept for new items alone taught nobody"


def test_the_map_of_content_comes_back(tmp_path):
    model = model_of()
    back = round_trip(model, TOWERS, tmp_path)
    new = np.random.default_rng(0).normal(size=(3, 14)).astype(np.float32)
    assert np.array_equal(model.conditioner(new), back.conditioner(new))
    assert back.conditioner.output_blocks == model.conditioner.output_blocks
    assert np.array_equal(back.known, model.known)


def test_what_is_known_of_items_is_mapped(tmp_path):
    back = round_trip(model_of(), TOWERS, tmp_path)
    for array in (back.features, back.content_knn.items):
        assert array.flags.writeable
        while array.base is not None and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)


def test_popularity_without_decay_comes_back(tmp_path):
    back = round_trip(replace(model_of(), half_life=np.inf), TOWERS, tmp_path)
    assert back.half_life == np.inf
    counts = np.bincount(training_log().item, minlength=N)
    np.testing.assert_allclose(back.seeing(training_log()).popularity.now(), np.log(counts + 0.05), rtol=1e-5)


def test_content_is_stored_once(tmp_path):
    from safetensors.numpy import load_file

    model = model_of()
    save(model, tmp_path)
    tensors = load_file(tmp_path / FILE)
    assert [name for name, value in tensors.items() if value.shape == model.features.shape] in (
        ["features"],
        ["features", "content_knn"],
        ["content_knn", "features"],
    )
