"""LoRA on tiny checkpoints of the true architectures: what learns, what is masked, what is kept, what is left out."""

import json
import re
from dataclasses import replace
from pathlib import Path

import lora_shop
import numpy as np
import pytest
import tiny_models
import torch
import transformers as tf
from peft.utils import other, save_and_load

from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.errors import BackendError, DataError, SettingsError
from molar_retrieval.finetuning.lora import objective, training
from molar_retrieval.finetuning.lora.answers import IGNORED, with_answers
from molar_retrieval.finetuning.lora.forecast import dry_run
from molar_retrieval.finetuning.lora.learner import frozen_vectors, load
from molar_retrieval.finetuning.lora.run import finetune, prepared, write
from molar_retrieval.models.towers.training import info_nce, next_item
from molar_retrieval.progress import SILENT, Notes
from molar_retrieval.workspace.settings import EmbedSettings

pytestmark = pytest.mark.slow

TASKS = lora_shop.TASKS


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return lora_shop.prepared(folder, lora_shop.write(folder / "shop"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen2"), "qwen2_vl", modules=False)


ITEMS = [EncoderInput("a red mug", tiny_models.photo(1, (64, 64))), EncoderInput("blue sofa"), EncoderInput(None)]
ITEMS[2] = EncoderInput(None, tiny_models.photo(2, (64, 64)))


@pytest.mark.parametrize("task", TASKS)
def test_the_losses_of_each_task_alone_fall(workspace, model, task):
    with prepared(workspace, lora_shop.settings(model, tasks=(task,), batch=6, examples=96, generate=1)) as trainer:
        assert trainer.examples.tasks == [task]
        losses = [trainer.step() for _ in range(16)]
    wanted = {task} if task == "behaviour" else {task, f"{task} words"}
    assert set(losses[0]) == wanted
    for name in wanted:
        first, last = (np.mean([loss[name] for loss in some]) for some in (losses[:3], losses[-3:]))
        assert last < 0.9 * first, name


def test_qwen2_learns_all_tasks_from_a_bare_checkpoint(workspace, qwen2):
    with prepared(workspace, lora_shop.settings(qwen2, batch=6, examples=60, gradient_checkpointing=True)) as trainer:
        losses = [trainer.step() for _ in range(10)]
    for name in losses[0]:
        first, last = (np.mean([loss[name] for loss in some]) for some in (losses[:3], losses[-3:]))
        assert last < first, name


@pytest.mark.parametrize(("layers", "expected"), [(1.0, {0, 1}), (0.5, {1}), (0.01, {1})])
@pytest.mark.parametrize("vision", [False, True])
def test_the_adapter_may_leave_out_the_lower_layers(model, layers, expected, vision):
    chosen = lora_shop.settings(model, layers=layers, vision=vision)
    learner = load(chosen.embed, chosen.lora, 0)
    names = [name for name in learner.trained() if "visual" not in name]
    assert {int(re.search(r"layers\.(\d+)\.", name)[1]) for name in names} == expected
    assert any("visual" in name for name in learner.trained()) == vision


@pytest.mark.parametrize("vision", [False, True])
def test_gradients_reach_the_adapter_and_nothing_else(workspace, model, vision):
    with prepared(workspace, lora_shop.settings(model, vision=vision)) as trainer:
        learner = trainer.learner
        before = {name: p.detach().clone() for name, p in learner.adapted.named_parameters()}
        trainer.step()
        assert all(p.grad is None for p in learner.encoder.model.parameters() if not p.requires_grad)
        assert all(p.grad is not None for p in learner.trained().values())
        trainer.step()
        changed = {n for n, p in learner.adapted.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {name for name in before if "lora_" in name}
    assert any("visual" in name for name in changed) == vision
    assert len([name for name in changed if "language_model" in name]) == 2 * 2 * 7  # A and B, layers, linear layers


def test_what_is_saved_is_what_was_trained_merged_or_not(workspace, model, tmp_path):
    chosen = lora_shop.settings(model)
    with prepared(workspace, chosen) as trainer:
        for _ in range(3):
            trainer.step()
        learner = trainer.learner
        trained = frozen_vectors(learner, [learner.encoder.entry(item) for item in ITEMS], 8).numpy()
        account = {"embed": {"prompt": "Say it."}, "revision": learner.encoder.info.revision}
        write(tmp_path / "out", learner, account, "# card", merged=True)
    bare = chosen.embed.model_copy(update={"prompt": None})
    for folder in ("out", "out/adapter"):
        saved = bare.model_copy(update={"model": str(tmp_path / folder)})
        encoder = registry.load(saved)
        assert encoder.info == registry.describe(saved)
        assert encoder.info.modalities == ("text", "image")
        np.testing.assert_allclose(encoder.encode(ITEMS), trained, atol=1e-5)
    assert np.abs(registry.load(chosen.embed).encode(ITEMS) - trained).max() > 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_language_model_that_only_reads_is_one_after_merging(tmp_path, capfd):
    """Which precision it runs in hangs on it; it is saved as what is under its head, and would tell nobody."""
    beneath = tiny_models.text_model(tmp_path / "beneath")
    config = json.loads((beneath / "config.json").read_text("utf-8"))
    (beneath / "config.json").write_text(json.dumps(config | {"architectures": ["BertLMForCausalLM"]}), "utf-8")
    chosen = lora_shop.settings(beneath)
    tf.utils.logging.enable_progress_bar()
    try:
        write(tmp_path / "out", load(chosen.embed, chosen.lora, 0), {}, "# card", merged=True)
        assert tf.utils.logging.is_progress_bar_enabled(), "it is nobody else's"
    finally:
        tf.utils.logging.disable_progress_bar()
    assert registry.located(chosen.embed.model_copy(update={"model": str(tmp_path / "out")})).is_language_model
    assert "it/s" not in capfd.readouterr().err


def test_saving_asks_no_hub_for_the_model_beneath(model, tmp_path, monkeypatch):
    chosen = lora_shop.settings(model)
    learner = load(chosen.embed, chosen.lora, 0)
    learner.adapted.peft_config["default"].base_model_name_or_path = "a-model-by-name"

    def refuse(*arguments, **named):
        raise AssertionError(f"the hub was asked: {arguments}, {named}")

    for module in (save_and_load, other):
        for name in ("file_exists", "hf_hub_download", "check_file_exists_on_hf_hub"):
            monkeypatch.setattr(module, name, refuse, raising=False)
    write(tmp_path / "out", learner, {}, "# card", merged=False)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_terms_of_use_are_told_before_training(workspace, tmp_path):
    model, notes = tiny_models.qwen_vl(tmp_path / "model"), Notes()
    (model / "README.md").write_text("---\nlicense: gemma\n---\n", "utf-8")
    finetune(
        workspace, lora_shop.settings(model, tasks=("attributes",), examples=4, merged=False), tmp_path / "out", notes
    )
    assert "https://ai.google.dev/gemma/terms" in notes.notes[0]


def test_an_adapter_wants_the_very_model_beneath_it(workspace, tmp_path):
    model = tiny_models.qwen_vl(tmp_path / "model")
    finetune(workspace, lora_shop.settings(model, tasks=("attributes",), examples=4, merged=False), tmp_path / "out")
    saved = EmbedSettings(model=str(tmp_path / "out"), device="cpu", dtype="float32")
    assert registry.describe(saved).settings["base_model"] == str(model)
    with pytest.raises(SettingsError, match="is an adapter"):
        load(saved, lora_shop.settings(model).lora, 0)
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


def test_an_interrupted_run_keeps_the_best_and_goes_on_as_if_undisturbed(workspace, model, tmp_path):
    chosen = lora_shop.settings(model, dropout=0.1, validate_every=3, save_every=2, examples=32, patience=9)
    whole = finetune(workspace, chosen, tmp_path / "whole")
    halved = finetune(workspace, chosen, tmp_path / "halved", Interruption(at=5))
    assert halved.interrupted
    assert any("interrupted after 6 of 8 steps" in note for note in halved.notes)
    assert registry.load(chosen.embed.model_copy(update={"model": str(tmp_path / "halved")})).encode(ITEMS).any()
    taken = []
    resumed = finetune(workspace, chosen, tmp_path / "halved", on_score=taken.append)
    assert [score.step for score in taken] == [0, 3, 6, 8]
    assert not resumed.interrupted
    assert (resumed.tasks, resumed.chosen) == (whole.tasks, whole.chosen)
    files = ("adapter/adapter_model.safetensors", "model.safetensors")
    for file in files:
        assert (tmp_path / "halved" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halved", "whole"]
    assert "license:" in (tmp_path / "whole" / "README.md").read_text()


def test_an_interruption_before_the_first_score_keeps_nothing_of_another_run(workspace, model, tmp_path):
    work = tmp_path / ".out.training"
    with prepared(workspace, lora_shop.settings(model, tasks=("attributes",), examples=8)) as trainer:
        trainer.train(work)
    assert work.exists()
    other = lora_shop.settings(model, tasks=("attributes",), examples=12)
    with prepared(workspace, other) as trainer:
        trainer.validation.scores = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(work)


def test_only_the_answer_counts_and_as_much_as_transformers_says(model):
    learner = load(lora_shop.settings(model).embed, lora_shop.settings(model).lora, 0)
    entries = [learner.encoder.entry(ITEMS[0]), learner.encoder.entry(EncoderInput("x", ITEMS[2].image))]
    texts = ["red", "a much longer answer"]
    words = [learner.encoder.model.tokenizer(text)["input_ids"] for text in texts]
    _, labels = with_answers(learner.features(entries), words, 0)
    assert [[token for token in row.tolist() if token != IGNORED] for row in labels] == words
    processor = tf.AutoProcessor.from_pretrained(model)
    whole = tf.AutoModelForImageTextToText.from_pretrained(model, dtype="float32").eval()
    total = 0.0
    for entry, text in zip(entries, texts, strict=True):
        said = [
            {"role": "system", "content": [{"type": "text", "text": "Say it."}]},
            {
                "role": "user",
                "content": [{"type": "image", "image": entry["image"]}, {"type": "text", "text": entry["text"]}],
            },
        ]
        answer = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
        size = {"images_kwargs": {"size": {"shortest_edge": 4096, "longest_edge": 4096}}}
        made = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "processor_kwargs": size}
        asked = processor.apply_chat_template(said, add_generation_prompt=True, **made)["input_ids"].shape[1]
        batch = processor.apply_chat_template(said + answer, **made)
        own = batch["input_ids"].clone()
        own[:, :asked] = IGNORED
        total += whole(**batch, labels=own).loss.item() * (own.shape[1] - asked)
    learner.training(False)
    assert learner.surprise(entries, texts).item() == pytest.approx(total, rel=1e-4)
    assert sum(map(learner.length, texts)) == sum(map(len, words)) + 2  # each ends


def test_a_head_of_its_own_is_found_and_one_that_is_lost_is_told(workspace, tmp_path):
    model = tiny_models.qwen_vl(tmp_path / "model", "qwen2_vl", tied=False)
    chosen = lora_shop.settings(model, tasks=("attributes",), examples=4)
    own = tf.AutoModelForImageTextToText.from_pretrained(model, dtype="float32").lm_head.weight
    assert torch.equal(load(chosen.embed, chosen.lora, 0).head, own)
    assert finetune(workspace, chosen, tmp_path / "once").notes == ()
    again = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"model": str(tmp_path / "once")})})
    assert "the model cannot write" in finetune(workspace, again, tmp_path / "twice").notes[0]


def test_small_chunks_give_the_gradients_of_one(workspace, model):
    found = []
    for chunk in (64, 3):
        with prepared(workspace, lora_shop.settings(model, chunk=chunk)) as trainer:
            random = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for weight in trainer.learner.trained().values():
                    weight.copy_(0.1 * torch.randn(weight.shape, generator=random))
            made = trainer._examples(0)
            losses = trainer.objective.gradients(made, 1, trainer.state.chunk)
            found.append((losses, {name: p.grad.clone() for name, p in trainer.learner.trained().items()}))
    (whole, large), (parts, small) = found
    assert whole == pytest.approx(parts, rel=1e-4)
    assert all(torch.allclose(large[name], small[name], atol=1e-5) for name in large)
    assert max(float(grad.abs().max()) for grad in large.values()) > 1e-3


def test_cached_gradients_are_those_of_one_graph_dropout_included(workspace, model):
    chosen = lora_shop.settings(model, chunk=3, dropout=0.4, gradient_checkpointing=True, generate=0)
    with prepared(workspace, chosen) as trainer:
        trainer.step()  # else the adapter's second half is zero, and the first one has no gradient
        made, weights = trainer._examples(1), trainer.learner.trained()
        trainer.objective.gradients(made, 1, trainer.state.chunk)
        cached = [p.grad.clone() for p in weights.values()]
        trainer.objective.lora = chosen.lora.model_copy(update={"gradient_caching": False})
        trainer.objective.gradients(made, 1, trainer.state.chunk)
        assert all(torch.allclose(p.grad, own, atol=1e-5) for p, own in zip(weights.values(), cached, strict=True))
        assert max(float(grad.abs().max()) for grad in cached) > 1e-3


def test_short_memory_halves_what_goes_through_at_once(workspace, model, monkeypatch):
    with prepared(workspace, lora_shop.settings(model, chunk=4)) as trainer:
        real = trainer.learner.vectors

        def narrow(features):
            if len(features["input_ids"]) > 2:
                raise RuntimeError("CUDA out of memory")
            return real(features)

        monkeypatch.setattr(trainer.learner, "vectors", narrow)
        assert np.isfinite(list(trainer.step().values())).all()
        assert trainer.state.chunk == 2
        monkeypatch.setattr(trainer.learner, "vectors", lambda _: torch.zeros(1).new_zeros(10**15))
        with pytest.raises(BackendError, match="memory is too short"):
            trainer.step()


def test_the_losses_leave_out_what_is_no_negative():
    left, right = np.random.default_rng(0).normal(size=(2, 3, 5))
    blocked = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    logits = np.where(blocked, -np.inf, left @ right.T / 0.5)
    both = [np.log(np.exp(side).sum(1)) - np.diag(side) for side in (logits, logits.T)]
    got = info_nce(*(torch.from_numpy(a) for a in (left, right)), 0.5, torch.from_numpy(blocked))
    assert float(got) == pytest.approx(np.mean(both))
    users, share, target = left[:2], np.array([0.5, 0.3, 0.2]), np.array([2, 0])
    logits = np.where([[0, 1, 0], [0, 0, 0]], -np.inf, users @ right.T / 0.5 - np.log(share))
    wanted = np.mean(np.log(np.exp(logits).sum(1)) - logits[[0, 1], target])
    mask = torch.tensor([[False, True, False], [False, False, False]])
    tensors = [torch.from_numpy(a) for a in (users, right, target, np.log(share))]
    assert float(next_item(*tensors, mask, 0.5)) == pytest.approx(wanted)


def test_nothing_withheld_or_held_out_is_learned_from(workspace, model):
    from molar_retrieval.models.als import held_out

    chosen = lora_shop.settings(model)
    away = held_out(workspace, chosen.split)
    assert len(away) == 40
    with prepared(workspace, chosen) as trainer:
        examples, shop = trainer.examples, trainer.examples.data
        assert len(shop.whole) == len(away.training) == 40 * 6
        withheld = set(shop.withheld.tolist())
        assert len(withheld) == 12
        for number in range(30):
            drawn = examples.draw(number)
            assert not withheld & {*drawn.rows["image_text"].tolist(), *drawn.rows["attributes"].tolist()}
            for at, (history, target) in drawn.histories.items():
                assert not withheld & {target, *history}
                person = int(np.searchsorted(shop.log.offsets, at, "right")) - 1
                own = away.training.history(person).tolist()
                assert [item for item in own if item not in withheld][: at - shop.log.offsets[person] + 1][-1] == target


def test_negatives_are_neither_had_nor_said_alike(workspace, model):
    with prepared(workspace, lora_shop.settings(model, masked=0.6, batch=8)) as trainer:
        shop, examples = trainer.examples.data, trainer.examples
        shop.double[examples.pools["image_text"][:4]] = 7  # these say the very same
        drawn = examples.draw(0)
        step = examples.build(drawn, trainer.learner.encoder.entry)
        pairs = step.pairs["attributes"]
        asked = [set(step.entries[place]["text"].split("; ")) for place in pairs.left]
        assert min(map(len, asked)) == 1  # something is masked
        rows = drawn.rows["attributes"]
        for i, j in np.ndindex(pairs.blocked.shape):
            alike = shop.double[rows[i]] == shop.double[rows[j]] or asked[i] <= set(shop.phrases[rows[j]])
            assert pairs.blocked[i, j] == (i != j and alike)
        asked_of = step.histories
        assert not asked_of.blocked[np.arange(len(asked_of.target)), asked_of.target].any()
        assert asked_of.blocked.any()
        assert np.exp(asked_of.log_q).sum() <= 1
        weights = asked_of.weights[0][asked_of.weights[0] > 0]
        assert sorted(weights.tolist()) in ([1.0], pytest.approx([0.8, 1.0]))


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
    with prepared(workspace, lora_shop.settings(model)) as trainer:
        assert trainer.examples.left_out[task] == why
        assert {name for name in TASKS if trainer.examples.left_out[name] is None} == set(TASKS) - {task}
        losses = trainer.step()
        assert not any(name.startswith(task) for name in losses)
    with pytest.raises(DataError, match=f"nothing to learn: .*{why}"):
        finetune(workspace, lora_shop.settings(model, tasks=(task,)), tmp_path / "out")


def test_a_text_model_learns_what_needs_no_photo_and_cannot_write(workspace, tmp_path):
    text = tiny_models.text_model(tmp_path / "text")
    chosen = lora_shop.settings(text, examples=8)
    chosen = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"prompt": None})})
    report = finetune(workspace, chosen, tmp_path / "out")
    reasons = {task.name: task.left_out for task in report.tasks}
    assert reasons == {"behaviour": None, "attributes": None, "image_text": "the encoder does not see photos"}
    assert "the model cannot write, so it only learned to find" in report.notes


def test_photos_that_fail_are_skipped_and_counted(tmp_path, model):
    shop = lora_shop.write(tmp_path / "shop")
    workspace = lora_shop.prepared(tmp_path, shop)
    for number in range(0, 60, 2):
        file = shop / "images" / f"i{number}.png"
        file.write_bytes(file.read_bytes()[:100])
    chosen = lora_shop.settings(model, tasks=("image_text",), examples=48, patience=99)
    report = finetune(workspace, chosen, tmp_path / "out")
    assert any("30 photos could not be read" in note for note in report.notes)


def test_a_loss_that_is_no_number_stops_the_run(workspace, model, monkeypatch):
    monkeypatch.setattr(objective, "info_nce", lambda left, *_: left.sum() * float("nan"))
    chosen = lora_shop.settings(model, tasks=("attributes",))
    with prepared(workspace, chosen) as trainer, pytest.raises(BackendError, match=r"step 1 is no number") as raised:
        trainer.step()
    assert "learning_rate" in raised.value.hint


def test_it_stops_when_withheld_items_are_not_found_better(workspace, model, tmp_path, monkeypatch):
    found = iter([0.5, 0.6, 0.4, 0.4, 0.9])
    monkeypatch.setattr(training.AdapterValidation, "scores", lambda *_: {"attributes": next(found)})
    chosen = lora_shop.settings(model, tasks=("attributes",), validate_every=1, patience=2)
    report = finetune(workspace, chosen, tmp_path / "out")
    assert report.chosen["step"] == 1
    assert [(task.before, task.after) for task in report.tasks if task.name == "attributes"] == [(0.5, 0.6)]
    assert replace(report, notes=()) == report


def test_bfloat16_weights_bear_an_adapter_of_float32(workspace, model):
    chosen = lora_shop.settings(model)
    chosen = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"dtype": "bfloat16"})})
    with prepared(workspace, chosen) as trainer:
        before = {name: p.detach().clone() for name, p in trainer.learner.trained().items()}
        assert np.isfinite(list(trainer.step().values())).all()
        assert {p.dtype for p in before.values()} == {torch.float32}
        assert {p.dtype for p in trainer.learner.encoder.model.parameters() if not p.requires_grad} == {torch.bfloat16}
        assert any(not torch.equal(p, before[name]) for name, p in trainer.learner.trained().items())
    half = chosen.embed.model_copy(update={"dtype": "float16"})
    with pytest.raises(SettingsError, match="too coarse"):
        load(half, chosen.lora, 0)


def test_a_forecast_counts_what_is_trained_and_warns_of_days(workspace, model):
    chosen = lora_shop.settings(model, batch=8, chunk=4, examples=80)
    found = dry_run(workspace, chosen)
    with prepared(workspace, chosen) as trainer:
        assert found.parameters == sum(p.numel() for p in trainer.learner.trained().values())
        whole = len(trainer._examples(0).entries)
    assert found.notes[0].startswith(f"10 steps of {whole} inputs")
    assert set(found.stages) == {"load", "steps", "validation"}
    assert found.seconds == pytest.approx(sum(found.stages.values()), abs=0.2)
    assert found.memory_bytes > 1e8
    assert "days" not in found.lines()[0]
    long = dry_run(workspace, lora_shop.settings(model, batch=8, chunk=4, examples=10**8))
    assert long.seconds > 1000 * found.seconds
    assert long.lines()[0].startswith("warning: this processor would need ")


@pytest.mark.slow
def test_two_processes_train_one_adapter_on_different_examples(model, warm, tmp_path):
    lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop"))
    tests = Path(__file__).parents[1]
    child, libraries = tests / "lora_processes_child.py", ("sentence_transformers", "peft")
    done = warm.run(tests / "launched.py", 2, child, tmp_path, model, libraries=libraries)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"process{n}.json").read_text("utf-8")) for n in (0, 1))
    assert first["steps"] == second["steps"] == 2  # 16 examples, 4 in each of 2 processes
    assert not set(first["drawn"]) & set(second["drawn"])
    assert first["adapter"] == second["adapter"]
