"""Statistics of several shops add up to those of all their people, and a file of them holds nothing else."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from eval_model_tasks import N_ITEMS, log_of
from safetensors.numpy import load_file, save_file

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.content_features import Conditioner
from molar_retrieval.models.private import private_models
from molar_retrieval.privacy import dp_release
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.privacy.statistics import (
    PAIRS,
    POPULARITY,
    THRESHOLD,
    TRANSITIONS,
    ContentBasis,
    SharedStatistics,
    add_statistics,
    added,
    open_shared,
    write_shared,
)

EXACT = GaussianMechanism(math.inf, 1e-6, 0.0)


def histories(count=60, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, N_ITEMS, random.integers(0, 9)).tolist() for _ in range(count)]


@pytest.fixture(scope="module")
def features():
    vectors = np.random.default_rng(1).normal(size=(N_ITEMS, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def shared(features, monkeypatch):
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.MANY)
    monkeypatch.setattr(dp_release, "LOWEST", 0.1)
    released = dp_release.dp_release(log_of(histories()), features, GaussianMechanism.of(8), shops=400)
    assert released.pairs.nnz
    block = (VectorBlock("text", 0, 6),)
    conditioner = Conditioner(block, (np.zeros(6, np.float32),), (np.eye(6, dtype=np.float32),))
    terms = ContentBasis({"name": "one", "fingerprint": "f"}, conditioner, np.eye(6, dtype=np.float32))
    return SharedStatistics(released, IdMap([f"I{n}" for n in range(N_ITEMS)]), terms, "release", "shop")


def test_sums_of_shops_are_the_sums_of_all_their_people(features):
    every = histories()
    whole = dp_release.dp_release(log_of(every), features, EXACT)
    one, other = (dp_release.dp_release(log_of(part), features, EXACT) for part in (every[:25], every[25:]))
    for found in (added([one, other]), add_statistics(one, [(other, True)])[1]):
        assert found.people == whole.people
        np.testing.assert_allclose(found.popularity, whole.popularity, rtol=1e-6)
        np.testing.assert_allclose(found.transitions, whole.transitions, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.pairs.toarray(), whole.pairs.toarray(), rtol=1e-6)
        assert found.deviations == whole.deviations


def test_noise_adds_up_by_its_variance(features, monkeypatch):
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.MANY)
    one, other = (
        dp_release.dp_release(log_of(histories(30, seed)), features, GaussianMechanism.of(seed)) for seed in (2, 4)
    )
    found = added([one, other])
    for name, deviation in found.deviations.items():
        assert deviation == pytest.approx(math.hypot(one.deviations[name], other.deviations[name]))
    assert found.mechanism.sigma == pytest.approx(math.hypot(one.mechanism.sigma, other.mechanism.sigma))
    assert found.mechanism.epsilon == 4  # other people: the promise to each is that of their own shop
    np.testing.assert_allclose(found.popularity, one.popularity + other.popularity, rtol=1e-5)


def test_a_shop_alone_is_what_it_was(features, monkeypatch):
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.MANY)
    log = log_of([[0, 1]] * 300 + [[2, 3]] * 200 + [[4]])
    released = dp_release.dp_release(log, features, GaussianMechanism.of(8))
    assert released.pairs.nnz
    total, told = add_statistics(released, [])
    counts, before = private_models(total, features, told=told), private_models(released, features)
    asked = log_of([[0], [2, 3]])
    for one, other in zip(counts.item_item, before.item_item, strict=True):
        assert one.scores(asked).tobytes() == other.scores(asked).tobytes()
    assert counts.content_knn.scores(asked).tobytes() == before.content_knn.scores(asked).tobytes()
    assert counts.popularity.now().tobytes() == before.popularity.now().tobytes()
    assert counts.weights == before.weights


def test_pairs_stay_that_are_clear_in_one_shop_or_in_the_sum(features):
    def of(*values):
        made = dp_release.dp_release(log_of([[0, 1, 2]]), features, EXACT)
        pairs = np.zeros((N_ITEMS, N_ITEMS), np.float32)
        pairs[0, 1 : 1 + len(values)] = values
        return replace(made, pairs=type(made.pairs)(pairs), deviations={POPULARITY: 1.0, PAIRS: 1.0})

    found = added([of(5, 3, 3, 4.5), of(0, 3, 2, -2)])
    row = found.pairs.toarray()[0, 1:5]
    assert row.tolist() == [5, 6, 0, 2.5]  # 6 is above 4 · √2, 5 is not, but was above 4 alone
    assert found.threshold == THRESHOLD
    assert added([of(3.9, 4.1)]).pairs.toarray()[0, 1:3].tolist() == [0, np.float32(4.1)]


def test_looks_of_other_terms_are_left_out_and_their_popularity_is_not(features, monkeypatch):
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.FEW)
    own, same, foreign = (
        dp_release.dp_release(log_of(histories(40, n)), features, GaussianMechanism.of(8)) for n in range(3)
    )
    total, told = add_statistics(own, [(same, True), (foreign, False)])
    np.testing.assert_array_equal(told.transitions, added([own, same]).transitions)
    np.testing.assert_array_equal(told.popularity, added([own, same]).popularity)
    np.testing.assert_array_equal(total.popularity, added([own, same, foreign]).popularity)
    assert total.transitions.shape == (N_ITEMS, 0)
    assert TRANSITIONS not in total.deviations
    monkeypatch.setattr(dp_release, "divided", lambda *_: dp_release.TINY)
    tiny = dp_release.dp_release(log_of(histories(5)), features, GaussianMechanism.of(1))
    total, told = add_statistics(tiny, [(foreign, False)])
    assert told is total
    assert add_statistics(tiny, [(same, True)])[1].people == same.people


def test_more_shops_release_what_is_worth_its_noise_in_the_sum(features):
    log, mechanism = log_of(histories(60)), GaussianMechanism.of(1)
    found = {shops: dp_release.divided(60.0, np.full(N_ITEMS, 20.0), mechanism, shops) for shops in (1, 10**6)}
    assert found == {1: dp_release.TINY, 10**6: dp_release.FEW}
    many = dp_release.FROM * mechanism.sigma / 2
    assert dp_release.divided(many, np.full(N_ITEMS, 1e3), mechanism) == dp_release.FEW
    assert dp_release.divided(many, np.full(N_ITEMS, 1e3), mechanism, 4) == dp_release.MANY
    assert dp_release.dp_release(log, features, mechanism, shops=2).threshold == pytest.approx(THRESHOLD / math.sqrt(2))
    assert dp_release.dp_release(log, features, mechanism, shops=100).threshold == dp_release.LOWEST


def test_a_file_comes_back_and_holds_what_it_says(shared, tmp_path):
    path = tmp_path / "one.statistics"
    digest = write_shared(shared, path)
    again = open_shared(path)
    assert (again.digest, again.path, again.release, again.shop) == (digest, path, "release", "shop")
    assert again.items == shared.items
    assert again.terms.digest == shared.terms.digest
    assert again.released.facts() == shared.released.facts()
    for name, tensor in shared.released.tensors().items():
        assert again.released.tensors()[name].tobytes() == tensor.tobytes()
    assert [one.name for one in tmp_path.iterdir()] == ["one.statistics"]
    assert write_shared(shared, path) == digest


def test_files_that_are_none_are_refused(shared, tmp_path):
    path = tmp_path / "one.statistics"
    with pytest.raises(RequestError, match="no file"):
        open_shared(path)
    path.write_text("nothing")
    with pytest.raises(DataError, match="holds no shared statistics"):
        open_shared(path)
    save_file({"a": np.zeros(2, np.float32)}, path)
    with pytest.raises(DataError, match="holds no shared statistics"):
        open_shared(path)
    with pytest.raises(DataError, match="cannot be written"):
        write_shared(shared, tmp_path / "nowhere" / "one.statistics")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts, _: facts.update(version=2), "version 2, and this molar reads"),
        (lambda facts, _: facts.pop("items"), "holds no shared statistics"),
        (lambda facts, _: facts.update(items=["A", "A"]), "more than once"),
        (lambda facts, _: facts["items"].pop(), "as many rows as items"),
        (lambda facts, _: facts.update(sigma=0.0), "noise on it is not said"),
        (lambda facts, _: facts["deviations"].pop("popularity"), "noise on it is not said"),
        (lambda facts, _: facts.update(people=math.nan), "belong together"),
        (lambda facts, _: facts.update(content_blocks=[["text", 0, 5]]), "no terms that could be"),
        (lambda _, tensors: tensors["popularity"].fill(math.inf), "values that cannot be"),
        (lambda _, tensors: tensors["axes"].fill(math.nan), "no terms that could be"),
        (lambda _, tensors: tensors["pairs.indices"].fill(N_ITEMS), "holds no shared statistics"),
        (lambda _, tensors: tensors.pop("pairs.data"), "holds no shared statistics"),
    ],
)
def test_files_that_cannot_be_are_refused(shared, tmp_path, change, said):
    from safetensors import safe_open

    path = tmp_path / "one.statistics"
    write_shared(shared, path)
    with safe_open(path, "numpy") as file:
        facts = json.loads(file.metadata()["molar"])
    tensors = {name: tensor.copy() for name, tensor in load_file(path).items()}
    change(facts, tensors)
    save_file(tensors, path, {"molar": json.dumps(facts)})
    with pytest.raises(DataError, match=said):
        open_shared(path)
