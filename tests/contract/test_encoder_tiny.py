"""The encoder contract on tiny checkpoints of every family."""

import pytest
import tiny_models
from encoder_contract import EncoderContract, settings_for

_MULTIMODAL = (
    {"max_text_tokens": 8},
    {"image_pixels": 5000},
    {"dim": 16},
    {"prompt": "Say it."},
    {"dtype": "bfloat16"},
)


class TestQwen3VL(EncoderContract):
    changes = _MULTIMODAL

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen3")))


class TestBareQwen3VL(EncoderContract):
    changes = _MULTIMODAL

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen3"), modules=False), dim=32)


class TestQwen2VL(EncoderContract):
    changes = _MULTIMODAL

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.qwen_vl(tmp_path_factory.mktemp("qwen2"), "qwen2_vl", modules=False))


class TestCLIP(EncoderContract):
    changes = ({"max_text_tokens": 8}, {"dtype": "bfloat16"})

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.clip(tmp_path_factory.mktemp("clip")))


class TestSigLIP(EncoderContract):
    changes = ({"max_text_tokens": 8}, {"dtype": "bfloat16"})

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.siglip(tmp_path_factory.mktemp("siglip")))


class TestTextModel(EncoderContract):
    sees_images = False
    changes = ({"max_text_tokens": 8}, {"dim": 16}, {"prompt": "passage: "}, {"dtype": "bfloat16"})

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.text_model(tmp_path_factory.mktemp("text")))


class TestBareTextModel(EncoderContract):
    sees_images = False

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.text_model(tmp_path_factory.mktemp("text"), modules=False), prompt="passage: ")


class TestPhotosBesideATextModel(EncoderContract):
    changes = ({"max_text_tokens": 8}, {"dim": 16}, {"prompt": "passage: "}, {"dtype": "bfloat16"}, {"photos": "own"})

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory):
        return settings_for(tiny_models.text_model(tmp_path_factory.mktemp("text")), photos="builtin")
