"""LoRA on tiny checkpoints of the true architectures: what learns, what is kept, left out and refused."""

import json
import re
import zipfile
from itertools import pairwise
from pathlib import Path

import lora_shop
import numpy as np
import pytest
import tiny_models
import torch
from peft.utils import other, save_and_load

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.encoders import registry, sentence
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.errors import BackendError, DataError, SettingsError, StaleArtefactError
from molar_retrieval.finetuning import adapter, lora
from molar_retrieval.finetuning.adapter import dry_run, finetune
from molar_retrieval.finetuning.tasks import TaskData
from molar_retrieval.models.als import held_out
from molar_retrieval.progress import SILENT, Notes

pytestmark = pytest.mark.slow

TASKS = lora_shop.TASKS
CHILD = Path(__file__).parents[1] / "lora_kill_child.py"
LIBRARIES = ("sentence_transformers", "peft", "datasets")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return lora_shop.prepared(folder, lora_shop.write(folder / "shop"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen3"))


ITEMS = [EncoderInput("a red mug", tiny_models.photo(1, (64, 64))), EncoderInput("blue sofa")]
ITEMS.append(EncoderInput(None, tiny_models.photo(2, (64, 64))))


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that were made."""
    made = []
    real = adapter.LoraTrainer

    def remember(*given, **named):
        made.append(real(*given, **named))
        return made[-1]

    monkeypatch.setattr(adapter, "LoraTrainer", remember)
    return made


def encoder(chosen, folder):
    embed = chosen.embed.model_copy(update={"model": str(folder), "prompt": None})
    return registry.load(embed)


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_of_each_task_alone_falls(workspace, model, tmp_path, task):
    chosen = lora_shop.settings(model, tasks=(task,), batch=6, n_examples=96, validate_every=4, patience=9)
    scores = []
    report = finetune(workspace, chosen, tmp_path / "out", on_score=scores.append)
    assert [outcome.name for outcome in report.tasks if outcome.left_out is None] == [task]
    assert [score.step for score in scores] == [0, 4, 8, 12, 16]
    assert scores[-1].loss < 0.9 * scores[1].loss


def test_qwen2_learns_all_tasks_from_a_bare_checkpoint(workspace, tmp_path):
    model = tiny_models.qwen_vl(tmp_path / "model", "qwen2_vl", modules=False)
    chosen = lora_shop.settings(model, n_examples=40, gradient_checkpointing=True, mini_batch_size=3, validate_every=5)
    scores = []
    finetune(workspace, chosen, tmp_path / "out", on_score=scores.append)
    assert set(scores[0].scores) == set(TASKS)
    assert scores[-1].loss < 0.9 * scores[1].loss
    assert scores[-1].value > scores[0].value


@pytest.mark.parametrize(("share", "vision", "expected"), [(1.0, True, {0, 1}), (0.5, False, {1}), (0.01, True, {1})])
def test_nothing_is_trained_but_the_adapter_which_may_leave_out_layers(
    workspace, model, tmp_path, trainers, monkeypatch, share, vision, expected
):
    rising = iter(range(9))
    monkeypatch.setattr(TaskData, "scores", lambda data, _: dict.fromkeys(data.tasks, next(rising)))
    chosen = lora_shop.settings(model, layer_share=share, vision=vision, n_examples=8, merged=False)
    base = {name: p.clone() for name, p in lora.load(chosen.embed, chosen.lora, 0).adapted.named_parameters()}
    finetune(workspace, chosen, tmp_path / "out")
    learner = trainers[0].learner
    changed = {name for name, p in learner.adapted.named_parameters() if not torch.equal(p, base[name])}
    assert changed == {name for name in base if "lora_" in name} == set(learner.weights())
    assert {int(re.search(r"layers\.(\d+)\.", name)[1]) for name in changed if "visual" not in name} == expected
    assert any("visual" in name for name in changed) == vision
    assert len([n for n in changed if "language_model" in n]) == 2 * len(expected) * 7  # A and B, linear layers


def test_what_is_written_is_what_was_trained_merged_or_not(workspace, model, tmp_path):
    chosen = lora_shop.settings(model, n_examples=12)
    finetune(workspace, chosen, tmp_path / "out")
    merged, alone = encoder(chosen, tmp_path / "out"), encoder(chosen, tmp_path / "out" / "adapter")
    np.testing.assert_allclose(merged.encode(ITEMS), alone.encode(ITEMS), atol=1e-5)
    assert merged.info.modalities == ("text", "image")
    assert np.abs(registry.load(chosen.embed).encode(ITEMS) - alone.encode(ITEMS)).max() > 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "license:" in card
    assert "60 items" in card


def test_a_language_model_that_only_reads_is_one_after_merging(workspace, tmp_path, capfd):
    """Which precision it runs in hangs on it; it is saved as what is under its head, and would tell nobody."""
    beneath = tiny_models.text_model(tmp_path / "beneath")
    config = json.loads((beneath / "config.json").read_text("utf-8"))
    (beneath / "config.json").write_text(json.dumps(config | {"architectures": ["BertLMForCausalLM"]}), "utf-8")
    (beneath / "README.md").write_text("---\nlicense: gemma\n---\n", "utf-8")
    chosen, notes = lora_shop.settings(beneath, n_examples=8), Notes()
    chosen = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"prompt": None})})
    report = finetune(workspace, chosen, tmp_path / "out", notes)
    reasons = {task.name: task.left_out for task in report.tasks}
    assert reasons == {"behaviour": None, "attributes": None, "image_text": "the encoder does not see photos"}
    assert "https://ai.google.dev/gemma/terms" in notes.notes[0]
    assert registry.located(chosen.embed.model_copy(update={"model": str(tmp_path / "out")})).is_language_model
    assert capfd.readouterr().out == ""  # what transformers says of weights that a file lacks, such as a pooler, stays


def test_an_adapter_asks_no_hub_and_wants_the_very_model_beneath_it(workspace, tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError(f"the hub was asked: {arguments}, {named}")

    for module in (save_and_load, other):
        for name in ("file_exists", "hf_hub_download", "check_file_exists_on_hf_hub"):
            monkeypatch.setattr(module, name, refuse, raising=False)
    model = tiny_models.qwen_vl(tmp_path / "model")
    chosen = lora_shop.settings(model, tasks=("attributes",), n_examples=4, merged=False)
    finetune(workspace, chosen, tmp_path / "out")
    saved = chosen.embed.model_copy(update={"model": str(tmp_path / "out"), "prompt": None})
    assert registry.describe(saved).settings["base_model"] == str(model)
    with pytest.raises(SettingsError, match="is an adapter"):
        lora.load(saved, chosen.lora, 0)
    tiny_models.qwen_vl(model, seed=1)
    with pytest.raises(BackendError, match=r"and .* is here"):
        registry.describe(saved)


class Interruption:
    """A progress that is interrupted at one of its steps."""

    def __init__(self, at):
        self.left = at

    def __getattr__(self, name):
        return getattr(SILENT, name)

    def advance(self, n=1):
        self.left -= n
        if self.left < 0:
            raise KeyboardInterrupt


def weights(folder):
    return [(folder / file).read_bytes() for file in ("adapter/adapter_model.safetensors", "model.safetensors")]


def test_an_interrupted_run_writes_the_best_and_goes_on_as_if_undisturbed(workspace, model, tmp_path):
    chosen = lora_shop.settings(model, dropout=0.1, validate_every=3, n_examples=32, patience=9)
    whole = finetune(workspace, chosen, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        finetune(workspace, chosen, tmp_path / "halved", Interruption(at=-1))
    assert not (tmp_path / "halved").exists()
    halved = finetune(workspace, chosen, tmp_path / "halved", Interruption(at=5))
    assert halved.interrupted
    assert any("interrupted after 6 of 8 steps" in note for note in halved.notes)
    assert encoder(chosen, tmp_path / "halved").encode(ITEMS).any()
    taken = []
    resumed = finetune(workspace, chosen, tmp_path / "halved", on_score=taken.append)
    assert [score.step for score in taken] == [0, 3, 6, 8]
    assert (resumed.tasks, resumed.chosen, resumed.interrupted) == (whole.tasks, whole.chosen, False)
    assert weights(tmp_path / "halved") == weights(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halved", "whole"]


def test_a_run_that_is_killed_anywhere_ends_with_the_same_bytes(model, warm, tmp_path):
    lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop"))
    done = warm.run(CHILD, tmp_path, model, tmp_path / "whole", libraries=LIBRARIES)
    assert done.returncode == 0, done.stderr
    changes = int(done.stdout)
    assert changes > 20
    for place in (0.15, 0.6, 1.0):  # within the first checkpoint, between two, and while the folder is removed
        output = tmp_path / f"killed{place}"
        killed = warm.run(CHILD, tmp_path, model, output, round(place * changes), libraries=LIBRARIES)
        assert killed.returncode == -9, killed.stderr
        again = warm.run(CHILD, tmp_path, model, output, libraries=LIBRARIES)
        assert again.returncode == 0, again.stderr
        assert weights(output) == weights(tmp_path / "whole")


def huge(file):
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more", bytes(1 << 27))


def linked(file):
    elsewhere = file.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


SPOILT = {
    "torn": lambda last: (last / "optimizer.pt").write_bytes((last / "optimizer.pt").read_bytes()[:100]),
    "missing": lambda last: (last / "scheduler.pt").unlink(),
    "huge": lambda last: huge(last / "rng_state.pth"),
    "long": lambda last: (last / "trainer_state.json").write_bytes(bytes(1 << 25)),
    "linked": lambda last: linked(last / "adapter.safetensors"),
    "strange": lambda last: (last / "training_args.bin").write_bytes(b""),
    "shapes": lambda last: lora.save_file({"weight": torch.zeros(2)}, last / "adapter.safetensors"),
    "numbers": lambda last: torch.save({"python": 1}, last / "rng_state.pth"),
    "state": lambda last: (last / "trainer_state.json").write_text('{"global_step": 10000000}'),
    "step": lambda last: (last.parent / "run.json").write_text('{"run": 1'),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_unfinished_run_that_was_tampered_with_is_refused_until_it_is_forgotten(workspace, model, tmp_path, spoil):
    chosen = lora_shop.settings(model, tasks=("attributes",), validate_every=1, n_examples=16, patience=9)
    assert finetune(workspace, chosen, tmp_path / "out", Interruption(at=2)).interrupted
    last = tmp_path / ".out.training" / "checkpoint-2"
    SPOILT[spoil](last)
    with pytest.raises(StaleArtefactError) as raised:
        finetune(workspace, chosen, tmp_path / "out")
    assert "--restart" in raised.value.hint
    assert not finetune(workspace, chosen, tmp_path / "out", restart=True).interrupted


def test_another_run_is_not_gone_on_with(workspace, model, tmp_path):
    chosen = lora_shop.settings(model, tasks=("attributes",), validate_every=1, n_examples=16)
    assert finetune(workspace, chosen, tmp_path / "out", Interruption(at=2)).interrupted
    scores = []
    changed = lora_shop.settings(model, tasks=("attributes",), validate_every=1, n_examples=12, patience=9)
    finetune(workspace, changed, tmp_path / "out", on_score=scores.append)
    assert [score.step for score in scores] == [0, 1, 2, 3]


def test_nothing_withheld_or_held_out_is_learned_from_and_no_batch_has_anything_twice(
    workspace, model, tmp_path, monkeypatch
):
    seen, inputs, scores = [], TaskData.inputs, TaskData.scores

    def judged(data, encode):
        before, found = len(seen), scores(data, encode)
        del seen[before:]
        return found

    monkeypatch.setattr(TaskData, "inputs", lambda data, codes: seen.append(codes) or inputs(data, codes))
    monkeypatch.setattr(TaskData, "scores", judged)
    chosen = lora_shop.settings(model, n_examples=80)
    report = finetune(workspace, chosen, tmp_path / "out")
    away = held_out(workspace, chosen.split)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    data = TaskData(catalogue, away.training, chosen.finetune, sees=True)
    assert (len(away), report.withheld, report.interactions) == (40, 12, len(data.log))
    assert not {code // 4 for codes in seen for code in codes} & set(data.withheld.tolist())
    pairs = {pair for person in range(40) for pair in pairwise(data.log.history(person).tolist())}
    for codes in seen:
        batch = [set(pair) for pair in zip(codes[::2], codes[1::2], strict=True)]
        assert len(set().union(*batch)) == sum(map(len, batch))
        if codes[0] % 4 == 3:
            assert {(a // 4, b // 4) for a, b in zip(codes[::2], codes[1::2], strict=True)} <= pairs
    named = [code for codes in seen for code in codes if code % 4 == 1]
    assert len({data.inputs([code])[0].text for code in named}) == len(set(named)), "the very same has one code"


@pytest.mark.parametrize(
    ("lacks", "task", "why"),
    [
        ("photos", "image_text", "only 0 items have a photo and a text"),
        ("attributes", "attributes", "only 0 items have attributes and a text"),
        ("interactions", "behaviour", "there are no interactions"),
    ],
)
def test_a_task_without_data_is_left_out_with_a_reason(tmp_path, model, lacks, task, why):
    workspace = lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop", **{lacks: False}))
    report = finetune(workspace, lora_shop.settings(model, n_examples=4), tmp_path / "some")
    assert {one.name: one.left_out for one in report.tasks} == dict.fromkeys(TASKS) | {task: why}
    with pytest.raises(DataError, match=f"nothing to learn: .*{why}"):
        finetune(workspace, lora_shop.settings(model, tasks=(task,)), tmp_path / "out")


def test_photos_that_fail_are_left_out_and_counted(tmp_path, model):
    shop = lora_shop.write(tmp_path / "shop")
    workspace = lora_shop.prepared(tmp_path, shop)
    for number in range(0, 60, 2):
        file = shop / "images" / f"i{number}.png"
        file.write_bytes(file.read_bytes()[:100])
    chosen = lora_shop.settings(model, tasks=("image_text",), n_examples=96, batch=2, patience=99)
    report = finetune(workspace, chosen, tmp_path / "out")
    assert any("30 photos could not be read" in note for note in report.notes)


def test_short_memory_halves_what_goes_through_at_once(workspace, model, tmp_path, monkeypatch):
    real, least = lora.CachedMultipleNegativesRankingLoss.forward, [2]

    def narrow(loss, *given):
        if loss.mini_batch_size > least[0]:
            raise RuntimeError("CUDA out of memory")
        return real(loss, *given)

    monkeypatch.setattr(lora.CachedMultipleNegativesRankingLoss, "forward", narrow)
    notes, chosen = Notes(), lora_shop.settings(model, mini_batch_size=4, n_examples=4)
    finetune(workspace, chosen, tmp_path / "out", notes)
    assert [note for note in notes.notes if "memory" in note] == [
        "memory is short: from now on 2 items in one forward pass"
    ]
    least[0] = 0
    with pytest.raises(BackendError, match="memory is too short"):
        finetune(workspace, chosen, tmp_path / "out")


def test_a_loss_that_is_no_number_stops_the_run(workspace, model, tmp_path, monkeypatch):
    real = lora.CachedMultipleNegativesRankingLoss.forward
    spoilt = lambda *given: real(*given) * float("nan")  # noqa: E731
    monkeypatch.setattr(lora.CachedMultipleNegativesRankingLoss, "forward", spoilt)
    with pytest.raises(BackendError, match="step 1 is no number") as raised:
        finetune(workspace, lora_shop.settings(model), tmp_path / "out")
    assert "learning_rate" in raised.value.hint


@pytest.mark.parametrize(("found", "best", "taken"), [([0.5, 0.5, 0.6, 0.4, 0.4], 2, 4), ([0.5, 0.4, 0.4], 0, 2)])
def test_it_stops_when_withheld_items_are_not_found_better(workspace, model, tmp_path, monkeypatch, found, best, taken):
    scores, told = iter(found), []
    monkeypatch.setattr(TaskData, "scores", lambda *_: {"attributes": next(scores)})
    chosen = lora_shop.settings(model, tasks=("attributes",), validate_every=1, patience=2)
    report = finetune(workspace, chosen, tmp_path / "out", on_score=told.append)
    assert ([score.step for score in told], report.chosen["step"]) == (list(range(taken + 1)), best)
    outcome = next(task for task in report.tasks if task.name == "attributes")
    assert (outcome.before, outcome.after) == (0.5, found[best])
    same = np.array_equal(encoder(chosen, tmp_path / "out").encode(ITEMS), registry.load(chosen.embed).encode(ITEMS))
    assert same == (best == 0) == any("written as it was" in note for note in report.notes)


def test_bfloat16_weights_bear_an_adapter_of_float32(workspace, model, tmp_path, trainers):
    chosen = lora_shop.settings(model, n_examples=4, merged=False)
    chosen = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"dtype": "bfloat16"})})
    finetune(workspace, chosen, tmp_path / "out")
    learner = trainers[0].learner
    assert {p.dtype for p in learner.weights().values()} == {torch.float32}
    assert {p.dtype for p in learner.encoder.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    for wrong, words in (({"dtype": "float16"}, "too coarse"), ({"device": "cuda:1"}, "by that name")):
        with pytest.raises(SettingsError, match=words):
            lora.load(chosen.embed.model_copy(update=wrong), chosen.lora, 0)


def test_packages_that_are_missing_are_named(model, monkeypatch):
    monkeypatch.setattr(sentence, "find_spec", lambda name: None if name == "datasets" else name)
    chosen = lora_shop.settings(model)
    with pytest.raises(BackendError, match="needs datasets") as raised:
        lora.load(chosen.embed, chosen.lora, 0)
    assert "pip install 'molar-retrieval[finetune]'" in raised.value.hint


def test_a_forecast_counts_what_is_trained_and_warns_of_days(workspace, model):
    found = dry_run(workspace, lora_shop.settings(model, batch=8, mini_batch_size=4, n_examples=80))
    assert found.parameters == 2 * 2 * 2 * 1024  # of rank 4
    assert found.notes[0].startswith("10 steps of 48 inputs, from one of 12 ")
    assert set(found.stages) == {"load", "steps", "validation"}
    assert found.seconds == pytest.approx(sum(found.stages.values()), abs=0.2)
    assert found.memory_bytes > 1e8
    assert "days" not in found.lines()[0]
    long = dry_run(workspace, lora_shop.settings(model, batch=8, mini_batch_size=4, n_examples=10**7))
    assert long.lines()[0].startswith("warning: this processor would need ")


def test_two_processes_train_one_adapter_on_different_examples(model, warm, tmp_path):
    lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop"))
    tests = Path(__file__).parents[1]
    done = warm.run(tests / "launched.py", 2, tests / "lora_processes_child.py", tmp_path, model, libraries=LIBRARIES)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"process{n}.json").read_text("utf-8")) for n in (0, 1))
    assert (first["report"], second["report"]) == (True, False)
    assert first["steps"] == second["steps"] == 2  # 16 pairs of each task, 4 in each of 2 processes
    assert len(first["seen"]) == len(second["seen"]) == 6
    assert not {*map(tuple, first["seen"])} & {*map(tuple, second["seen"])}
    assert (first["scores"], first["adapter"]) == (second["scores"], second["adapter"])
