"""Code in data.

A folder, a file of settings, a manifest and an environment variable ask to run a planted module or to unpickle one; it
leaves a canary file when it runs. Every place is tried that names an encoder or a class.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lora_shop
import pytest
import tiny_models
import torch

from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.errors import BackendError, MolarError, SettingsError, StaleArtefactError
from molar_retrieval.finetuning import adapter as adapter_run
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.settings import EmbedSettings, MolarSettings

OWN = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
CODE = """open({canary!r}, "w").close()
from transformers import BertConfig, BertModel, BertTokenizerFast
from torch.nn import Tanh
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
class OwnTokenizer(BertTokenizerFast):
    pass
class Own(Tanh):
    @classmethod
    def load(cls, *arguments, **named):
        return cls()
"""


class Bomb:
    """Leaves the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return (open, (self.canary, "w"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"text": tiny_models.text_model(root / "text"), "clip": tiny_models.clip(root / "clip")}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def folder(models: dict[str, Path], tmp_path: Path, canary: Path) -> Path:
    made = shutil.copytree(models["text"], tmp_path / "model")
    (made / "own.py").write_text(CODE.format(canary=str(canary)), "utf-8")
    return made


def told(file: Path, **changes: Any) -> None:
    """Change a JSON file, or make it."""
    content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content | changes), "utf-8")


def own_model(folder: Path) -> None:
    """The legitimate one: an architecture that transformers lacks, as hub models bring it."""
    told(folder / "config.json", model_type="own", auto_map=OWN)


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / name).write_bytes(pickle.dumps(Bomb(folder.parent / "canary"), protocol=2))


def modules(folder: Path, kind: str, path: str = "2_Own") -> None:
    listed = json.loads((folder / "modules.json").read_text("utf-8"))
    listed.append({"idx": 2, "name": "2", "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(listed), "utf-8")
    told(folder / path / "config.json")


def in_own_config(folder: Path) -> None:
    own_model(folder)
    told(folder / "config.json", trust_remote_code=True)


def in_module_arguments(folder: Path) -> None:
    own_model(folder)
    granted = {"trust_remote_code": True}
    names = ("model_args", "tokenizer_args", "config_args")
    told(folder / "sentence_bert_config.json", **dict.fromkeys(names, granted))


def in_tokenizer(folder: Path) -> None:
    told(
        folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
    )


def in_native_architecture(folder: Path) -> None:
    told(folder / "config.json", auto_map=OWN)


def in_a_part(folder: Path) -> None:
    told(folder / "config.json", text_config={"model_type": "own", "auto_map": OWN})


def module_in_folder(folder: Path) -> None:
    modules(folder, "own.Own")


def module_on_path(folder: Path) -> None:
    modules(folder, "planted_on_the_path.Own")


def module_that_is_none(folder: Path) -> None:
    modules(folder, "sentence_transformers.base.model.pickle")


def router(folder: Path) -> None:
    modules(folder, "sentence_transformers.base.modules.router.Router")
    told(folder / "2_Own" / "router_config.json", types={"a": "own.Own"}, structure={"a": ["a"]}, parameters={})


def activation(folder: Path) -> None:
    modules(folder, "sentence_transformers.base.modules.dense.Dense")
    told(folder / "2_Own" / "config.json", in_features=32, out_features=32, bias=True, activation_function="own.Own")


def word_tokenizer(folder: Path) -> None:
    modules(folder, "sentence_transformers.sentence_transformer.modules.word_embeddings.WordEmbeddings")
    told(folder / "2_Own" / "wordembedding_config.json", tokenizer_class="own.Own")


def linked_part(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    modules(folder, "sentence_transformers.base.modules.router.Router")
    (folder / "2_Own").rename(elsewhere)
    (folder / "2_Own").symlink_to(elsewhere)
    told(elsewhere / "router_config.json", types={"a": "own.Own"}, structure={"a": ["a"]}, parameters={})


def pickle_with_permission(folder: Path) -> None:
    pickled(folder)
    told(folder / "sentence_bert_config.json", model_kwargs={"weights_only": False})


def generation(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "own.py", folder / "custom_generate" / "generate.py")


def kernels(folder: Path) -> None:
    told(folder / "config.json", attn_implementation="somebody/kernels:attention")


def fused(folder: Path) -> None:
    """What `molar finetune` writes, over a model with code."""
    fused_silently(folder, trust_remote_code=True)


def fused_silently(folder: Path, **more: bool) -> None:
    beneath = shutil.copytree(folder, folder.parent / "beneath")
    own_model(beneath)
    embed = {"model": str(beneath), "trusts_code": True, "__class__": "_Trusting", **more}
    was = registry.describe(EmbedSettings(model=str(beneath)).trusting()).fingerprint
    (folder / "modules.json").unlink()
    told(folder / "config.json", model_type="molar-fusion", molar={"embed": embed, "fingerprint": was, "head": {}})


def adapter(folder: Path) -> None:
    beneath = shutil.copytree(folder, folder.parent / "beneath")
    own_model(beneath)
    for name in ("modules.json", "config.json", "model.safetensors"):
        (folder / name).unlink()
    told(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(beneath), auto_map=OWN)
    told(folder / "molar.json", embed={"trust_remote_code": True})


def pickled_adapter(folder: Path) -> None:
    beneath = shutil.copytree(folder, folder.parent / "beneath")
    for name in ("modules.json", "config.json"):
        (folder / name).unlink()
    pickled(folder, "adapter_model.bin")
    layers = {"target_modules": ["query"], "task_type": "FEATURE_EXTRACTION", "r": 2}
    told(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(beneath), **layers)


def hub_snapshot(folder: Path) -> None:
    own_model(folder)
    place = folder.parent / "hub" / "models--some--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc", "utf-8")
    shutil.copytree(folder, place / "snapshots" / "abc")


def clip_processor(folder: Path) -> None:
    auto = {"AutoProcessor": "own.Own", "AutoImageProcessor": "own.Own", "AutoTokenizer": "own.OwnTokenizer"}
    for name in ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"):
        told(folder / name, auto_map=auto)
    told(folder / "processor_config.json", processor_class="OwnProcessor")


PLANTED = [
    own_model, in_own_config, in_module_arguments, in_tokenizer, in_native_architecture, in_a_part, module_in_folder,
    module_on_path, module_that_is_none, router, activation, word_tokenizer, linked_part, pickled,
    pickle_with_permission, generation, kernels, fused, fused_silently, adapter, pickled_adapter, hub_snapshot,
    clip_processor,
]  # fmt: skip
RUNS_WITHOUT_IT = {in_native_architecture, in_tokenizer}
"""Where a library has something of its own to take instead, which it may."""


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_nothing_in_a_model_folder_runs(
    plant: Callable[[Path], None], folder: Path, models: Any, canary: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    """No file of a model's folder can make its code run, or be unpickled, without --trust-remote-code."""
    if plant is clip_processor:
        shutil.copytree(models["clip"], folder, dirs_exist_ok=True)
        (folder / "modules.json").unlink()
    plant(folder)
    on_path = tmp_path / "path"
    on_path.mkdir()
    (on_path / "planted_on_the_path.py").write_text(CODE.format(canary=str(canary)), "utf-8")
    monkeypatch.syspath_prepend(str(on_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "some/model" if plant is hub_snapshot else str(folder)
    settings = EmbedSettings(model=name, device="cpu")
    with nullcontext() if plant in RUNS_WITHOUT_IT else pytest.raises(MolarError):
        registry.load(settings).encode([EncoderInput(text="a cat")])
    assert not canary.exists()


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter.safetensors", "run.json"])
def test_nothing_in_an_unfinished_training_runs(file: str, tmp_path: Path, models: Any, canary: Path) -> None:
    """No file of an unfinished fine-tuning can make code run, or be unpickled: it is refused with the remedy."""
    workspace = lora_shop.prepared(tmp_path, lora_shop.write(tmp_path / "shop", photos=False, interactions=False))
    chosen = lora_shop.settings(models["text"], tasks=("attributes",), validate_every=1, n_examples=16, patience=9)
    chosen = chosen.model_copy(update={"embed": chosen.embed.model_copy(update={"prompt": None})})

    def interrupt(score: Any) -> None:
        if score.step == 2:
            raise KeyboardInterrupt

    assert adapter_run.finetune(workspace, chosen, tmp_path / "out", on_score=interrupt).interrupted
    run = tmp_path / ".out.training"
    planted = run / file if file == "run.json" else run / "checkpoint-2" / file
    for legacy in (False, True):
        torch.save(Bomb(canary), planted, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(StaleArtefactError) as caught:
            adapter_run.finetune(workspace, chosen, tmp_path / "out")
        assert "--restart" in caught.value.hint
    assert not canary.exists()


def test_code_runs_where_this_run_trusts_it(folder: Path, canary: Path) -> None:
    """With trust from the command line the code of a legitimate model runs, and only then."""
    own_model(folder)
    settings = EmbedSettings(model=str(folder), device="cpu", offline=True)
    with pytest.raises(MolarError) as caught:
        registry.load(settings)
    assert "--trust-remote-code" in caught.value.hint
    assert not canary.exists()
    found = registry.load(settings.trusting()).encode([EncoderInput(text="a cat")])
    assert canary.exists()
    assert found.any()


@pytest.mark.parametrize("value", [True, False])
def test_no_settings_carry_trust(tmp_path: Path, value: bool) -> None:
    """Neither molar.toml nor an environment variable can trust code; both are refused with the remedy."""
    with pytest.raises(SettingsError) as caught:
        MolarSettings.load(tmp_path, environ={"MOLAR_EMBED_TRUST_REMOTE_CODE": str(value)})
    assert "--trust-remote-code" in caught.value.hint
    (tmp_path / "molar.toml").write_text(f"[embed]\ntrust_remote_code = {str(value).lower()}\n", "utf-8")
    with pytest.raises(SettingsError) as caught:
        MolarSettings.load(tmp_path, environ={})
    assert "--trust-remote-code" in caught.value.hint
    (tmp_path / "molar.toml").write_text('[embed]\ntrusts_code = true\n"_Trusting" = 1\n', "utf-8")
    with pytest.raises(SettingsError):
        MolarSettings.load(tmp_path, environ={})


def test_no_manifest_carries_trust(shop: Any, folder: Path, canary: Path) -> None:
    """A generation's manifest that asks for trust runs nothing: `molar query --text` refuses with the remedy."""
    own_model(folder)
    live = shop.workspace / "generations" / (shop.workspace / "generations" / "current").read_text("utf-8").strip()
    manifest = json.loads((live / "manifest.json").read_text("utf-8"))
    queries = manifest["facts"]["queries"]
    queries["embed"] = {"model": str(folder), "trust_remote_code": True, "offline": True}
    settings = EmbedSettings(model=str(folder), offline=True)
    command = [Path(sys.executable).with_name("molar"), "query", "--text", "black dress", "-w", shop.workspace]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for believed in (settings, settings.trusting()):
        queries["encoder"] = asdict(registry.describe(believed))
        (live / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        artefacts.write_inventory(live)  # as a forger does
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == BackendError.exit_code, done.stderr
        assert "--trust-remote-code" in done.stderr
        assert not canary.exists()
