"""Fine-tuning by closed solutions: what the head does, what each task finds, what withheld items decide."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_model_tasks import log_of
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders import head as fused
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import EncoderInput, VectorBlock, unit
from molar_retrieval.encoders.head import PLACES, FusionHead, Lexical, word_counts
from molar_retrieval.errors import BackendError, DataError, SettingsError
from molar_retrieval.finetuning.fit import tune
from molar_retrieval.finetuning.head_fit import Chosen
from molar_retrieval.finetuning.inputs import TaskTexts, inputs_of
from molar_retrieval.finetuning.withheld import TOP, WithheldCases, recall
from molar_retrieval.ids import IdMap
from molar_retrieval.models.content_knn import consumed_together
from molar_retrieval.models.item_item import binary
from molar_retrieval.rng import generator
from molar_retrieval.workspace.settings import EmbedSettings, FinetuneSettings

pytestmark = pytest.mark.slow

N, WIDTH = 400, 12
BLOCKS = (VectorBlock("content_text", 0, WIDTH), VectorBlock("content_image", WIDTH, 2 * WIDTH))


class World:
    """Items of twenty kinds, told by their words; photos are words through a matrix; people keep to two kinds."""

    def __init__(self, noise: float = 0.3) -> None:
        rng = generator(0, "fine-tuning world")
        kind = np.arange(N) % 20
        centres = rng.normal(size=(20, WIDTH))
        words = centres[kind] + 0.6 * rng.normal(size=(N, WIDTH))
        photo = words @ rng.normal(size=(WIDTH, WIDTH)) + noise * rng.normal(size=(N, WIDTH))
        self.vectors = unit(np.concatenate([unit(words), unit(photo)], axis=1))
        told = unit(words + 0.1 * rng.normal(size=(N, WIDTH)))
        turn = rng.normal(size=(WIDTH, WIDTH))
        self.texts = TaskTexts(
            told,
            np.arange(N),
            unit(centres @ turn),
            csr_matrix((np.ones(N, np.float32), (np.arange(N), kind)), (N, 20)),
            word_counts([None] * N),
        )
        liked = rng.integers(20, size=(150, 2))
        self.log = log_of(
            [(20 * rng.integers(20, size=12) + two[rng.integers(2, size=12)]).tolist() for two in liked], N
        )

    def content(self, vectors: np.ndarray | None = None) -> ContentVectors:
        ids = IdMap([f"i{n}" for n in range(N)])
        return ContentVectors(ids, self.vectors if vectors is None else vectors, BLOCKS, {"name": "made up"})

    def tuned(self, learn: np.ndarray | None = None, vectors: np.ndarray | None = None, **settings: object):
        everything = np.ones(N, bool) if learn is None else learn
        inputs = inputs_of(self.content(vectors), self.texts, everything, keep=8)
        chosen = FinetuneSettings(keep=8, factors=10, **settings)  # type: ignore[arg-type]
        return tune(inputs, self.log, chosen)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def tuned(world: World):
    return world.tuned()


def test_every_task_finds_withheld_items_better(tuned) -> None:
    by_name = {task.name: task for task in tuned.tasks}
    assert set(by_name) == {"attributes", "image_text", "behaviour"}
    assert by_name["image_text"].before < 0.2 < 0.6 < by_name["image_text"].after
    assert by_name["attributes"].after >= by_name["attributes"].before
    assert by_name["behaviour"].after >= by_name["behaviour"].before
    assert tuned.withheld == 120
    assert not [task for task in tuned.tasks if task.left_out]


def test_attributes_move_words_where_that_harms_no_other_task(world: World) -> None:
    (task,) = [task for task in world.tuned(behaviour=False).tasks if task.name == "attributes"]
    assert task.after > 2 * task.before


def test_photos_that_say_nothing_are_weighed_down() -> None:
    noisy = World(noise=50.0).tuned()
    assert noisy.chosen.words >= 0.8
    assert noisy.head.shares[0] > 3 * noisy.head.shares[1]


def test_a_task_that_is_switched_off_leaves_no_trace(world: World, tuned) -> None:
    for name, plain in (
        ("attributes", {"move": 0.0}),
        ("image_text", {"seen": None, "shown": None}),
        ("behaviour", {"words": 0.5}),
    ):
        without = world.tuned(**{name: False})
        assert {task.name: task.left_out for task in without.tasks}[name] == "it is switched off"
        for key, value in plain.items():
            assert getattr(without.chosen, key) == value
    nothing = world.tuned(attributes=False, image_text=False, behaviour=False)
    assert nothing.chosen == Chosen()
    inputs = inputs_of(world.content(), world.texts, np.ones(N, bool), keep=8)
    assert np.array_equal(nothing.head(world.vectors, [None] * N), inputs.head(world.vectors, [None] * N))


def test_what_the_data_lack_is_said(world: World) -> None:
    blind = world.vectors.copy()
    blind[:, WIDTH:] = 0
    inputs = inputs_of(world.content(blind), replace(world.texts, holders=csr_matrix((N, 20))), np.ones(N, bool), 8)
    done = tune(inputs, None, FinetuneSettings(keep=8))
    assert {task.name: task.left_out for task in done.tasks} == {
        "attributes": "only 0 of the items withheld to choose by have attributes and a text",
        "image_text": "only 0 of the items withheld to choose by have a photo and a text",
        "behaviour": "there are no interactions",
    }


def test_items_that_are_not_to_be_learned_from_change_nothing(world: World) -> None:
    learn = np.arange(N) % 5 != 3
    learn_log = log_of([[i for i in world.log.history(u).tolist() if learn[i]] for u in range(world.log.n_users)], N)
    changed = world.vectors.copy()
    changed[~learn] = unit(generator(1, "others").normal(size=(int((~learn).sum()), 2 * WIDTH)))
    other_texts = replace(world.texts, described=np.where(learn[:, None], world.texts.described, changed[:, :WIDTH]))
    one, other = (
        tune(inputs_of(world.content(vectors), texts, learn, 8), learn_log, FinetuneSettings(keep=8, factors=10))
        for vectors, texts in ((world.vectors, world.texts), (changed, other_texts))
    )
    assert one.head.shares != ()
    for name in ("seen", "shown", "attributes"):
        if one.chosen == other.chosen:
            assert np.allclose(getattr(one.head, name), getattr(other.head, name))
    assert all(np.allclose(a, b) for a, b in zip(one.head.maps, other.head.maps, strict=True))


def test_the_same_seed_gives_the_same_head(world: World, tuned) -> None:
    again = world.tuned()
    assert again.chosen == tuned.chosen
    assert all(np.array_equal(a, tuned.head.to_tensors()[name]) for name, a in again.head.to_tensors().items())


def test_vectors_have_length_one_and_parts_keep_their_shares(world: World, tuned) -> None:
    vectors = tuned.head(world.vectors, [None] * N)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert [block.name for block in tuned.head.output_blocks][:2] == ["content_text", "content_image"]
    assert tuned.head.output_blocks[-1].stop == vectors.shape[1] == tuned.head.dim
    assert tuned.head.shares[2] == 0
    for block, share in zip(tuned.head.output_blocks, np.delete(tuned.head.shares, 2), strict=False):
        own = np.square(vectors[:, block.start : block.stop]).sum(axis=1)
        assert np.allclose(own, share, atol=1e-5)
    assert not tuned.head(np.zeros((2, 2 * WIDTH), np.float32), [None, None]).any()


def test_missing_words_are_guessed_from_the_photo(world: World, tuned) -> None:
    wordless = world.vectors.copy()
    wordless[:, :WIDTH] = 0
    words = tuned.head.output_blocks[0]
    guessed, known = (tuned.head(v, [None] * N)[:, words.start : words.stop] for v in (wordless, world.vectors))
    likeness = (unit(guessed) * unit(known)).sum(axis=1).mean()
    others = (unit(guessed) * np.roll(unit(known), 1, axis=0)).sum(axis=1).mean()
    assert likeness > 0.6 > 0.3 > others


def test_words_as_they_are_written_count_where_they_tell_who_takes_an_item() -> None:
    blurred = World(noise=50.0)
    rng = generator(1, "words that say nothing")
    blurred.vectors = unit(rng.normal(size=blurred.vectors.shape))
    spoken = [f"series{n % 20} by author{n % 20}" for n in range(N)]
    by_chance = [f"series{a} by author{b}" for a, b in rng.integers(20, size=(N, 2))]
    heads = []
    for texts in (spoken, by_chance):
        blurred.texts = replace(blurred.texts, written=word_counts(texts))
        heads.append(blurred.tuned())
    told, idle = heads
    assert told.chosen.written >= 0.3 > idle.chosen.written
    before, after = next((t.before, t.after) for t in told.tasks if t.name == "behaviour")
    assert after > 5 * before
    vectors = told.head(blurred.vectors, spoken)
    assert vectors.shape == (N, told.head.dim)
    mute = told.head(blurred.vectors, [None] * N)
    assert np.allclose(np.linalg.norm(mute, axis=1), 1, atol=1e-5)
    assert not np.allclose(mute, vectors, atol=0.1)


def test_lexical_vectors_are_near_where_texts_share_rare_words() -> None:
    texts = [
        "the red dress by Miu",
        "the blue dress by Miu",
        "the red mug",
        "the green lamp",
        "the blue lamp",
        "the",
        None,
    ]
    found = word_counts(texts)
    lexical = Lexical.fit(found, 3)
    vectors = lexical(found)
    assert vectors.shape == (7, 3)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.5 > max(near[0, 3], near[0, 4])
    assert not vectors[[5, 6]].any()  # what all say, and nothing
    alone = lexical(word_counts(["The RED dress, by Miu!"]))
    assert np.allclose(alone[0], vectors[0], atol=1e-5)
    assert word_counts(["dress dress dress"]).data == pytest.approx([1 + np.log(3)])


@pytest.mark.parametrize("texts", [[], [None], ["one"], ["one", "two"], ["same", "same"]])
def test_texts_that_share_nothing_have_no_lexical_vectors(texts: list[str | None]) -> None:
    found = word_counts(texts)
    assert Lexical.fit(found, 8)(found).shape == (len(texts), 0)


def test_factors_are_those_of_the_whole_matrix() -> None:
    rng = generator(0, "consumption")
    log = log_of([rng.choice(30, 6, replace=False).tolist() for _ in range(80)], 40)
    among = np.arange(40) % 4 != 1
    items, factors = consumed_together(log, among, 5)
    x = binary(log).toarray().astype(np.float64)[:, among]
    together = x.T @ x
    np.fill_diagonal(together, 0)
    rows = together.sum(axis=1)
    assert items.tolist() == np.flatnonzero(among)[rows > 0].tolist()
    matrix = (together / np.sqrt(np.outer(np.maximum(rows, 1), np.maximum(rows, 1))))[rows > 0][:, rows > 0]
    values, vectors = np.linalg.eigh(matrix)
    best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    assert factors @ factors.T == pytest.approx(best, abs=1e-5)


def test_gains_are_those_of_a_full_ranking() -> None:
    rng = generator(0, "gains")
    log = log_of([rng.permutation(40)[:9].tolist() for _ in range(30)], 40)
    withheld = np.arange(40) % 4 == 0
    cases = WithheldCases.of(log, withheld, 0)
    vectors = unit(rng.normal(size=(40, 6)))
    wanted = []
    for user in range(log.n_users):
        history: list[int] = []
        for item in log.history(user).tolist():
            if withheld[item] and history:
                scores = vectors @ vectors[history[-1]]
                scores[history] = -np.inf
                rank = int((scores >= scores[item]).sum())
                wanted.append(1 / np.log2(1 + rank) if rank <= TOP else 0.0)
            if not withheld[item]:
                history.append(item)
    assert len(cases) == len(wanted) > 20
    assert cases.gains(vectors, 0) == pytest.approx(wanted)


def test_doubles_answer_for_each_other() -> None:
    twice = unit(np.tile(np.eye(3, dtype=np.float32), (20, 1)))
    assert (
        recall(twice, twice, np.arange(60), np.arange(60)) == 0.0
    )  # nineteen others say the same, under other numbers
    assert recall(twice, twice, np.arange(60), np.arange(60) % 3) == 1.0


def saved(folder: Path, head: FusionHead) -> EmbedSettings:
    base = registry.describe(EmbedSettings())
    fused.save_head(folder, head, EmbedSettings(), base.fingerprint, {"tasks": []}, "# card")
    return EmbedSettings(model=str(folder))


@pytest.fixture(scope="module")
def builtin_head() -> FusionHead:
    rng = generator(0, "builtin head")
    blocks = (VectorBlock("content_text", 0, 384), VectorBlock("content_image", 384, 2048))
    means = tuple(rng.normal(size=b.stop - b.start).astype(np.float32) * 0.01 for b in blocks)
    maps = tuple(rng.normal(size=(b.stop - b.start, 16)).astype(np.float32) for b in blocks)
    lexical = Lexical(*(rng.normal(size=shape).astype(np.float32) for shape in (PLACES, (PLACES, 8), 8)))
    plain = FusionHead.plain(blocks, means, maps, lexical)
    small = {"seen": (16, 16), "shown": (16, 16), "attributes": (16, 16), "taken": (40, 4), "usual": (4,)}
    arrays = {name: 0.1 * rng.normal(size=shape).astype(np.float32) for name, shape in small.items()}
    return replace(plain, **arrays, shares=(0.5, 0.2, 0.2, 0.1))  # type: ignore[arg-type]


def test_a_saved_encoder_gives_what_the_head_gives(tmp_path: Path, builtin_head: FusionHead) -> None:
    settings = saved(tmp_path / "tuned", builtin_head)
    info = registry.describe(settings)
    assert info.family == "fine-tuned"
    assert info.modalities == ("text", "image")
    encoder = registry.load(settings)
    assert encoder.info == info
    items = [
        EncoderInput("a red dress", Image.new("RGB", (64, 64), (200, 10, 10))),
        EncoderInput(None, Image.new("RGB", (64, 64), (10, 10, 200))),
        EncoderInput("a blue shirt", None),
    ]
    beneath, texts = registry.load(EmbedSettings()).encode(items), [item.text for item in items]
    assert np.allclose(encoder.encode(items), builtin_head(beneath, texts), atol=1e-6)
    assert encoder.dim == builtin_head.dim == 44


def test_an_encoder_is_written_whole_and_over_nothing_else(tmp_path: Path, builtin_head: FusionHead) -> None:
    folder = tmp_path / "tuned"
    first = registry.describe(saved(folder, builtin_head)).fingerprint
    second = registry.describe(saved(folder, replace(builtin_head, shares=(0.3, 0.4, 0.2, 0.1)))).fingerprint
    assert first != second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuned"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="holds something else"):
        saved(tmp_path / "mine", builtin_head)


def test_a_head_of_an_earlier_version_is_refused_with_the_remedy(tmp_path: Path, builtin_head: FusionHead) -> None:
    settings = saved(tmp_path / "tuned", builtin_head)
    weights = tmp_path / "tuned" / "model.safetensors"
    save_file({name: array for name, array in load_file(weights).items() if name != "shown"}, weights)
    for read in (fused.base_and_head, registry.load):
        with pytest.raises(SettingsError, match="lacks 'shown'") as caught:
            read(settings)
        assert "molar finetune" in str(caught.value.hint)


def test_another_encoder_beneath_is_refused(tmp_path: Path, builtin_head: FusionHead) -> None:
    settings = saved(tmp_path / "tuned", builtin_head)
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    config["molar"]["fingerprint"] = "0" * 32
    (tmp_path / "tuned" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match="tunes builtin as of 0000"):
        registry.describe(settings)
