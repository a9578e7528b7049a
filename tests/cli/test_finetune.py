"""`molar finetune`: a folder that `molar embed` takes at once, and what is said on the way."""

import json
import shutil

import lora_shop
import numpy as np
import pytest
import tiny_models
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from typer.testing import CliRunner

from molar_cli.app import app
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders import head as fused
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory, molar):
    """A workspace whose encoder was fine-tuned, and what was printed."""
    folder = tmp_path_factory.mktemp("tuned")
    copy_workspace(trained.workspace, folder / ".molar", ignore=shutil.ignore_patterns("generations"))
    align = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items())
    (folder / "molar.toml").write_text(f"[finetune]\nkeep = 64\nwithheld = 0.2\n[align]\n{align}")
    done = molar("finetune", trained.shop, "--workspace", folder / ".molar")
    assert done.returncode == 0, done.stderr
    return folder / ".molar", done


def test_it_says_what_each_task_brought(tuned):
    workspace, done = tuned
    for words in ("attributes find", "photos find", "histories find", "before", "after", "Recall@10", "NDCG@10"):
        assert words in done.stdout
    assert f"molar embed CATALOG --model {workspace / 'finetuned'}" in done.stdout.replace("\n", "")
    card = (workspace / "finetuned" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "100 items" in card


def test_a_second_run_with_nothing_changed_does_nothing(tuned, trained, molar):
    workspace, _ = tuned
    weights = workspace / "finetuned" / "model.safetensors"
    before = weights.stat()
    again = molar("finetune", trained.shop, "--workspace", workspace)
    assert again.returncode == 0, again.stderr
    assert "up to date" in again.stdout
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    flags = ("--no-image-text", "--no-attributes", "--output", workspace / "other", "--json")
    other = [molar("finetune", trained.shop, "--workspace", workspace, *flags) for _ in range(2)]
    first, second = (json.loads(done.stdout) for done in other)
    assert (first.pop("up_to_date"), second.pop("up_to_date")) == (False, True)
    assert first == second
    fresh = molar("finetune", trained.shop, "--workspace", workspace, *flags, "--restart")
    assert not json.loads(fresh.stdout)["up_to_date"]


def test_the_folder_is_an_encoder_and_the_rest_follows(tuned, trained, molar):
    workspace, _ = tuned
    folder = workspace / "finetuned"
    before = ContentVectors.open(Workspace.open(workspace)["content"].require()[0])
    base = np.array(before.vectors)
    embed = molar("embed", trained.shop, "--workspace", workspace, "--model", folder)
    assert embed.returncode == 0, embed.stderr
    assert "nothing to encode" in embed.stdout or "0 encoded" in embed.stdout, embed.stdout
    after = ContentVectors.open(Workspace.open(workspace)["content"].require()[0])
    assert after.conditioned
    assert not before.conditioned
    assert len(after.vectors) == len(base)
    assert after.dim < before.dim
    encoder = registry.load(EmbedSettings(model=str(folder)))
    some = [EncoderInput(text) for text in ("a red dress", "a blue mug")]
    assert encoder.encode(some).shape == (2, after.dim)
    (_, head) = fused.base_and_head(EmbedSettings(model=str(folder)))
    catalogue = Catalogue.open(Workspace.open(workspace)["catalogue"].require()[0])
    texts = [text for batch in catalogue.batches(["text"], 64) for text in batch["text"].to_pylist()]
    assert np.allclose(after.vectors, head(base, texts), atol=1e-5)
    assert np.allclose(np.linalg.norm(after.vectors, axis=1), 1, atol=1e-4)
    align = molar("align", "--workspace", workspace, "--preset", "instant")
    assert align.returncode == 0, align.stderr
    answer = json.loads(molar("query", "--user", trained.user, "--workspace", workspace, "--json").stdout)
    assert len(answer["items"]) == 10
    search = molar("query", "--text", "a red dress", "--workspace", workspace, "--json")
    assert search.returncode == 0, search.stderr
    assert json.loads(search.stdout)["items"]
    again = molar("finetune", trained.shop, "--workspace", workspace, "--model", folder)
    assert again.returncode != 0
    assert "is fine-tuned already" in again.stderr


def test_json_and_switches(tuned, trained, molar, tmp_path):
    workspace = tmp_path / ".molar"
    copy_workspace(trained.workspace, workspace, ignore=shutil.ignore_patterns("generations", "alignment"))
    flags = ("--no-behaviour", "--no-attributes", "--output", tmp_path / "out", "--json")
    done = molar("finetune", trained.shop, "--workspace", workspace, *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["folder"] == str(tmp_path / "out")
    assert {t["name"]: t["left_out"] for t in report["tasks"]} == {
        "attributes": "it is switched off",
        "behaviour": "it is switched off",
        "image_text": "only 10 of the items withheld to choose by have a photo and a text"
        if report["withheld"] < 20
        else None,
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    refused = molar("finetune", trained.shop, "--workspace", workspace, "--output", tmp_path / "mine")
    assert refused.returncode != 0
    assert "holds something else" in refused.stderr


def test_a_forecast_for_a_head_is_made_without_writing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("molar_retrieval.finetuning.forecast._MORE", 40)  # fewer texts than the shop has
    workspace = tmp_path / ".molar"
    copy_workspace(trained.workspace, workspace, ignore=shutil.ignore_patterns("generations", "alignment"))
    done = CliRunner().invoke(
        app, ["finetune", str(trained.shop), "--workspace", str(workspace), "--dry-run", "--json"]
    )
    assert done.exit_code == 0, done.stderr
    forecast = json.loads(done.stdout)
    assert 384 * 100 < forecast["parameters"] < 2048 * 257 + 8192 * 257 + 256 * 512 + 768 * 128
    assert forecast["stages"]["vectors"] == 0  # they are there
    assert 0 < forecast["seconds"] < 600
    assert "from a sample of 40;" in forecast["notes"][1]
    assert not (workspace / "finetuned").exists()


def test_a_language_model_is_trained_and_used(molar, tmp_path):
    shop, model = lora_shop.write(tmp_path / "shop", interactions=False), tiny_models.qwen_vl(tmp_path / "model")
    (tmp_path / "molar.toml").write_text(
        '[embed]\nimage_pixels = 4096\ndtype = "float32"\ndevice = "cpu"\n[finetune]\nwithheld = 0.2\n'
        "[lora]\nbatch = 4\nvalidate_every = 2\n"
    )
    common = ("--workspace", tmp_path / ".molar")
    command = ("finetune", shop, "--model", model, "--examples", 16, *common)
    plan = CliRunner().invoke(app, [*map(str, command), "--dry-run"])
    assert plan.exit_code == 0, plan.stderr
    assert "32,768 parameters are trained on cpu" in plan.stdout
    assert "histories find the items that come next: there are no interactions" in plan.stderr
    assert not (tmp_path / ".molar" / "finetuned").exists()
    done = molar(*command, libraries=("sentence_transformers", "peft", "datasets"))
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines() if line.startswith("step ")] == ["0", "2", "4"]
    assert "loss: " in done.stderr
    assert "histories find the items that come next: there are no interactions" in done.stderr
    assert "attributes find the title and description" in done.stdout
    used = molar("embed", shop, "--model", tmp_path / ".molar" / "finetuned", *common)
    assert used.returncode == 0, used.stderr
    vectors = ContentVectors.open(Workspace.open(tmp_path / ".molar")["content"].require()[0]).vectors
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
