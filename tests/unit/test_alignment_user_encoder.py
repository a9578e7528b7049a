"""The user encoder without torch gives what the model gives, whatever the model is made of and whatever is read."""

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from alignment_tasks import EXPERTS, TOWERS, N, model_of, settings_of
from eval_model_tasks import log_of

from molar_indexes.generations import carried, open_generation
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.store import described, open_model, save
from molar_retrieval.models.towers.inference import FILE, NumpyTower, UserEncoder, numpy_tower
from molar_retrieval.models.towers.inference import time_gaps as light_gaps
from molar_retrieval.models.towers.network import TIME_BUCKETS, Tower, TowerShape, time_gaps, tower_of
from molar_retrieval.workspace.artefacts import Manifest, Workspace

KINDS = {
    "everything": (TOWERS, EXPERTS),
    "no towers": ((), EXPERTS),
    "no count models": (TOWERS, ()),
    "in another order": (TOWERS[::-1], EXPERTS),
    **{f"only {tower}": ((tower,), ()) for tower in TOWERS},
    **{f"only {expert}": ((), (expert,)) for expert in EXPERTS},
}
TIMES = {
    "one moment": lambda steps: np.full(len(steps), 77),
    "no times": np.zeros_like,
    "seconds": np.cumsum,
    "huge gaps": lambda steps: np.cumsum(steps << 40),
    "years before 1970": lambda steps: np.cumsum(steps << 20) - (1 << 33),
}
HISTORIES = [[7], [7, 7, 9, 20], [], [1, 2, 3, 4, 5, 6], [30, 8, 21, 5, 5, 9, 38, 14, 2, 3, 39, 11, 12], list(range(N))]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def encoder_of(model, towers, folder):
    """That of a saved model."""
    save(model, folder)
    sections = {"align": settings_of(towers).model_dump(mode="json")}
    Manifest("alignment", "f", settings=sections, facts=described(model)).write(folder)
    return UserEncoder.open(folder)


def log_at(times, seed=0):
    steps = [np.random.default_rng(seed).integers(0, 9, len(history)) for history in HISTORIES]
    return log_of(HISTORIES, N, np.concatenate([times(step) for step in steps]).astype(np.int64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", TIMES)
def test_vectors_are_those_of_the_model(kind, times, tmp_path):
    towers, counts = KINDS[kind]
    model, log, rows = model_of(towers, counts), log_at(TIMES[times]), np.array([4, 0, 2, 1, 5, 3])
    encoder = encoder_of(model, towers, tmp_path)
    right, found = model.users(log, rows), encoder.users(log, rows)
    np.testing.assert_allclose(found.dense, right.dense, atol=1e-5)
    assert found.dense.dtype == np.float32
    assert found.sparse.shape == right.sparse.shape
    np.testing.assert_allclose(found.sparse.toarray(), right.sparse.toarray(), atol=1e-6)
    assert found.sparse.has_sorted_indices
    assert encoder.parts == tuple(part.name for part in model.dense_parts)


def test_a_tower_that_was_spared_is_missed_by_nobody(tmp_path):
    """The settings name it still, as they are those that were asked for."""
    model, log, rows = model_of(("id_tower",)), log_at(TIMES["seconds"]), np.arange(len(HISTORIES))
    encoder = encoder_of(model, TOWERS, tmp_path)
    right = model.users(log, rows).dense
    np.testing.assert_allclose(encoder.users(log, rows).dense, right, atol=1e-5)
    np.testing.assert_allclose(open_model(tmp_path).users(log, rows).dense, right, atol=1e-6)


@pytest.mark.parametrize("light", [{"id_tower": 1.0}, {"ease": 0.4, "content_tower": 0.1}, {}])
def test_parts_without_a_weight_are_left_out(light, tmp_path):
    model = model_of(weights=light, cold_start_weights={"content_knn": 0.5} if light else {})
    encoder, log, rows = encoder_of(model, TOWERS, tmp_path), log_at(TIMES["seconds"]), np.arange(len(HISTORIES))
    right, found = model.users(log, rows), encoder.users(log, rows)
    np.testing.assert_allclose(found.dense, right.dense, atol=1e-5)
    assert (abs(found.sparse - right.sparse) > 1e-6).nnz == 0
    assert found.sparse.shape == right.sparse.shape


@pytest.mark.parametrize(
    "shape",
    [
        TowerShape(8, 0, 5, 0.0),
        TowerShape(24, 1, 4, 0.0),
        TowerShape(64, 3, 20, 0.0),
        TowerShape(128, 2, 200, 0.0),
        TowerShape(48, 2, 20, 0.0, members=2),
        TowerShape(24, 0, 20, 0.0, members=3),
    ],
    ids=lambda shape: f"{shape.members} of {shape.blocks} blocks, {shape.dim} in all",
)
def test_a_tower_of_any_shape(shape):
    torch.manual_seed(shape.dim)
    tower = tower_of(shape).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=shape.dim**-0.5)
    light = numpy_tower({name: tensor.numpy() for name, tensor in tower.state_dict().items()})
    assert (light.dim, light.history) == (shape.dim, shape.history)
    random = np.random.default_rng(0)
    for length in {1, 2, shape.history}:
        vectors = random.normal(size=(length, shape.dim)).astype(np.float32)
        times = np.sort(random.integers(0, 1 << 31, length))
        with torch.inference_mode():
            right = tower(torch.from_numpy(vectors)[None], time_gaps(torch.from_numpy(times)[None]))[0, -1]
        np.testing.assert_allclose(light(vectors, times), right.numpy(), atol=1e-5)


def test_gaps_fall_into_the_same_buckets():
    """At borders of buckets above all, which are powers of two less a second, or irrational."""
    near = np.add.outer(np.exp2(np.arange(0, 110) / 2).astype(np.int64), np.arange(-3, 4)).ravel()
    for times in (np.unique(near), np.arange(3000), np.unique(near)[::-1]):
        right = time_gaps(torch.from_numpy(times.copy())[None])[0].numpy()
        assert np.array_equal(light_gaps(times, TIME_BUCKETS), right)


def test_a_tower_reads_its_window_alone(tmp_path):
    encoder = encoder_of(model_of(), TOWERS, tmp_path)
    items, times = np.array(HISTORIES[-1]), np.arange(N) * 3600
    window = settings_of(TOWERS).max_history
    (early, _), (late, _) = encoder.encode(items, times), encoder.encode(items[-window:], times[-window:])
    towers = sum(tower.dim for tower in encoder.towers.values())
    assert np.array_equal(early[:towers], late[:towers])
    assert not np.array_equal(early, encoder.encode(items[::-1], times)[0])
    assert not np.array_equal(early, encoder.encode(items, times * 50)[0])


def test_the_weights_lie_in_the_file(tmp_path):
    """Nothing of the size of the catalogue is read when an encoder is opened."""
    encoder = encoder_of(model_of(), TOWERS, tmp_path)
    for table in (encoder.features, encoder.items["id_tower"], encoder.taste[0]):
        assert isinstance(table.base, np.memmap)
        assert not table.flags.writeable


@pytest.mark.parametrize("damage", ["short", "nonsense", "missing", "another layout"])
def test_a_damaged_file_is_named(damage, tmp_path):
    encoder_of(model_of(), TOWERS, tmp_path)
    path = tmp_path / FILE
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "another layout":
        path.write_bytes(content.replace(b"qkvg", b"kqvg"))
    else:
        path.write_bytes(content[:-100] if damage == "short" else b"nonsense")
    with pytest.raises(StaleArtefactError, match="user encoder") as caught:
        UserEncoder.open(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "molar align" in caught.value.hint


def test_nothing_heavy_is_imported(tmp_path):
    encoder_of(model_of(), TOWERS, tmp_path)
    program = f"""
        import sys
        from pathlib import Path
        import numpy as np
        from molar_retrieval.models.towers.inference import UserEncoder
        vector, sparse = UserEncoder.open(Path({str(tmp_path)!r})).encode(np.array([3, 4]), np.zeros(2, np.int64))
        assert np.isfinite(vector).all() and len(sparse.indices)
        heavy = {{"torch", "scipy", "pyarrow", "pydantic", "safetensors"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.alone
def test_a_history_of_200_takes_milliseconds():
    """At the sizes of the defaults; 5 ms are promised, see docs/ranking.md, and a busy machine may take more."""
    tower = Tower(TowerShape(128, 2, 200, 0.0)).eval()
    light = NumpyTower.of({name: tensor.numpy() for name, tensor in tower.state_dict().items()})
    random = np.random.default_rng(0)
    vectors, times = random.normal(size=(200, 128)).astype(np.float32), np.sort(random.integers(0, 1 << 27, 200))
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        light(vectors, times)
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.025


def test_a_published_alignment_is_read_alike(trained):
    workspace = Workspace.open(trained.workspace)
    folder, log = workspace["alignment"].require()[0], open_log(workspace)
    model, rows = open_model(folder), np.arange(log.n_users)
    right, found = model.users(log, rows), UserEncoder.open(folder).users(log, rows)
    np.testing.assert_allclose(found.dense, right.dense, atol=1e-4)
    assert (abs(found.sparse - right.sparse) > 1e-6).nnz == 0


def test_stored_users_have_the_vectors_that_a_process_that_answers_makes(trained):
    with open_generation(Workspace.open(trained.workspace)) as generation:
        encoder = UserEncoder.open(carried(generation.folder))
        for user in generation.users.between(0, 20):
            dense, _ = encoder.encode(user.history, user.times)
            np.testing.assert_allclose(dense, user.vector, atol=1e-4)
