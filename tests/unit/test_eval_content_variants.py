"""Fine-tuning under evaluation: once for a split, on nothing but its training interactions."""

import lora_shop
import numpy as np
import pytest
import tiny_models

from molar_eval.models.base import EvaluationTask
from molar_eval.models.content_variants import CROSS_MODAL, FineTunedContentKNN, FineTuning
from molar_eval.splits import make_split
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.finetuning import adapter
from molar_retrieval.finetuning.lora import LoraTrainer
from molar_retrieval.finetuning.tasks import TaskData
from molar_retrieval.models.als import open_log
from molar_retrieval.models.item_item import known_items
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings, FinetuneSettings, LoraSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    base = Workspace.open(trained.workspace)
    settings = FinetuneSettings(keep=32, factors=8, withheld=0.2)
    tuning = FineTuning(base, tmp_path_factory.mktemp("tuned"), EmbedSettings(), settings, LoraSettings())
    split = make_split("cold items", open_log(base), {})
    return tuning, split, tuning.workspace(split.training, 0)


def test_vectors_are_made_once_and_say_what_they_are(made, trained):
    tuning, split, workspace = made
    content = ContentVectors.open(workspace["content"].require()[0])
    assert content.conditioned
    assert len(content.vectors) == trained.items
    files = {path: path.stat().st_mtime_ns for path in tuning.root.rglob("*") if path.is_file()}
    again = tuning.workspace(split.training, 0)
    assert again.root == workspace.root
    assert {path: path.stat().st_mtime_ns for path in tuning.root.rglob("*") if path.is_file()} == files


def test_items_held_out_by_the_split_are_not_read(made, monkeypatch):
    tuning, split, _ = made
    known = known_items(split.training)
    assert not known.all()
    learned = []

    def spy(inputs, log, settings, progress):
        learned.append(inputs.learn)
        raise KeyboardInterrupt

    monkeypatch.setattr("molar_eval.models.content_variants.tune", spy)
    other = FineTuning(tuning.base, tuning.root, tuning.embed, FinetuneSettings(keep=16), tuning.lora)
    with pytest.raises(KeyboardInterrupt):
        other.workspace(split.training, 0)
    assert np.array_equal(learned[0], known)


def test_another_seed_withholds_other_items(made):
    tuning, split, workspace = made
    other = tuning.workspace(split.training, 1)
    assert other.root != workspace.root


def test_how_well_photos_and_texts_of_held_out_items_find_each_other_is_told(made):
    _, _, workspace = made
    found = ContentVectors.open(workspace["content"].require()[0]).info[CROSS_MODAL]
    assert set(found) == {"before", "after"}
    assert all(0 <= share <= 1 for shares in found.values() for share in shares)
    assert all(len(shares) == 2 for shares in found.values())


def test_neighbours_read_the_fine_tuned_vectors(made, tmp_path):
    tuning, split, workspace = made
    vectors = np.array(ContentVectors.open(workspace["content"].require()[0]).vectors)
    task = EvaluationTask(split.training, split.validation, np.ones(len(vectors), bool), None, "hide", tmp_path)
    fitted = FineTunedContentKNN(tuning, "content kNN (fine-tuned)", 256).fit(task, 0)
    scores = fitted.scores(split.training)
    assert scores.shape == (split.training.n_users, len(vectors))
    assert np.isfinite(scores).all()
    assert scores.max() <= 1 + 1e-5
    assert np.linalg.matrix_rank(scores.astype(np.float64), tol=1e-3) <= vectors.shape[1]


def test_a_language_model_gets_an_adapter_that_never_saw_what_the_split_holds_out(tmp_path, monkeypatch):
    base = lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop"))
    chosen = lora_shop.settings(tiny_models.qwen_vl(tmp_path / "model"), n_examples=8)
    split = make_split("cold items", open_log(base), {})
    known, taught = known_items(split.training), []

    def remember(*given, **named):
        taught.append(TaskData(*given, **named))
        return taught[-1]

    monkeypatch.setattr(adapter, "TaskData", remember)
    tuning = FineTuning(base, tmp_path / "tuned", chosen.embed, chosen.finetune, chosen.lora)
    workspace = tuning.workspace(split.training, 0)
    assert not known.all()
    assert known[np.union1d(taught[0].learned, taught[0].withheld)].all()
    assert len(taught[0].whole) == len(split.training)
    content = ContentVectors.open(workspace["content"].require()[0])
    assert (len(content.vectors), content.conditioned) == (len(known), False)
    task = EvaluationTask(split.training, split.validation, np.ones(len(known), bool), None, "hide", tmp_path)
    scores = FineTunedContentKNN(tuning, "content kNN (fine-tuned)", 16).fit(task, 0).scores(split.training)
    assert np.isfinite(scores).all()
    assert len(taught) == 1, "what is trained stays"


def test_an_interrupted_training_is_no_result(tmp_path, monkeypatch):
    base = lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop"))
    chosen = lora_shop.settings(tiny_models.qwen_vl(tmp_path / "model"), n_examples=8, validate_every=1)
    split = make_split("cold items", open_log(base), {})
    tuning = FineTuning(base, tmp_path / "tuned", chosen.embed, chosen.finetune, chosen.lora)
    step = LoraTrainer.training_step

    def killed(trainer, *given):
        if trainer.state.global_step == 1:
            raise KeyboardInterrupt
        return step(trainer, *given)

    monkeypatch.setattr(LoraTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        tuning.workspace(split.training, 0)
    assert not list(tuning.root.glob("adapter-*"))
    monkeypatch.setattr(LoraTrainer, "training_step", step)
    assert tuning.workspace(split.training, 0)["content"].current is not None
