"""Hub models: the local cache first, then the hub, and quick, clear failures."""

import os
import subprocess
import sys
import time

import huggingface_hub
import pytest
import tiny_models

from molar_retrieval.encoders import checkpoint
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.settings import EmbedSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "organisation/tiny"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub cache with one model, as huggingface_hub lays it out."""
    root = tmp_path / "hub"
    model = root / "models--organisation--tiny"
    tiny_models.text_model(model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT, "utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    return root


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model_needs_no_network(cache, revision):
    settings = EmbedSettings(model=NAME, revision=revision, offline=True, device="cpu")
    info = describe(settings)
    assert info.revision == COMMIT
    encoder = load(settings)
    assert encoder.info == info
    assert encoder.encode([EncoderInput("a cat")]).any()


def test_a_short_name_is_one_of_sentence_transformers(cache):
    (cache / "models--organisation--tiny").rename(cache / "models--sentence-transformers--tiny-text-model")
    assert describe(EmbedSettings(model="tiny-text-model", offline=True)).revision == COMMIT


def test_another_commit_is_another_encoder(cache):
    before = describe(EmbedSettings(model=NAME, offline=True)).fingerprint
    model = cache / "models--organisation--tiny"
    other = COMMIT[::-1]
    (model / "snapshots" / COMMIT).rename(model / "snapshots" / other)
    (model / "refs" / "main").write_text(other, "utf-8")
    assert describe(EmbedSettings(model=NAME, offline=True)).fingerprint != before


def test_an_unknown_revision_is_not_the_cached_one(cache):
    with pytest.raises(BackendError, match="revision v2"):
        describe(EmbedSettings(model=NAME, revision="v2", offline=True))


def test_a_cache_without_the_weights(cache):
    (cache / "models--organisation--tiny" / "snapshots" / COMMIT / "model.safetensors").unlink()
    settings = EmbedSettings(model=NAME, offline=True)
    assert describe(settings).revision == COMMIT
    with pytest.raises(BackendError, match="weights"):
        load(settings)


def test_missing_shards_are_noticed(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (tmp_path / "1.safetensors").write_bytes(b"x")
    assert not checkpoint.has_weights(tmp_path)
    (tmp_path / "2.safetensors").write_bytes(b"x")
    assert checkpoint.has_weights(tmp_path)


def test_what_is_fetched_before_the_weights_are_needed(cache, monkeypatch):
    calls = []
    folder = cache / "models--organisation--tiny" / "snapshots" / COMMIT

    def snapshot_download(name, **keywords):
        calls.append((name, keywords["revision"], keywords["allow_patterns"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    settings = EmbedSettings(model="organisation/new", revision="v1", device="cpu")
    assert describe(settings).revision == COMMIT
    assert [call[:2] for call in calls] == [("organisation/new", "v1")]
    assert not any("safetensors" in pattern for pattern in calls[0][2])
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, **keywords: (
            snapshot_download(name, **keywords),
            keywords["allow_patterns"] is None and (folder / "model.safetensors").write_bytes(weights),
        )[0],
    )
    load(settings)
    assert calls[-1] == ("organisation/new", COMMIT, None)


def test_a_hub_out_of_reach_fails_within_seconds(tmp_path):
    script = (
        "import sys\n"
        "from molar_retrieval.workspace.settings import EmbedSettings\n"
        "from molar_retrieval.encoders.registry import describe\n"
        "from molar_retrieval.errors import BackendError\n"
        "try:\n    describe(EmbedSettings(model='organisation/absent'))\n"
        "except BackendError as error:\n    print(error.exit_code, error.message, error.hint, sep='|')\n"
    )
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", script], env=os.environ | gone, capture_output=True, text=True)
    assert time.perf_counter() - start < 20
    assert run.stdout.startswith("4|"), run.stderr
    assert "hf download organisation/absent" in run.stdout
    assert "builtin" in run.stdout
