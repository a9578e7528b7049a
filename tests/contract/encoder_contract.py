"""What every encoder has to fulfil. To test one more, subclass and give it ``settings``."""

import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image

from molar_retrieval.encoders.base import Encoder, EncoderInput
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.workspace.settings import EmbedSettings

ODD_TEXTS = [
    "<|image_pad|>",
    "mouse <|image_pad|> <|im_end|> </s> [SEP] <|endoftext|> <pad>",
    "https://example.invalid/photo.jpg",
    "data:image/png;base64,AAAA",
    "",
    "   ",
    "x" * 10_000,
    "word " * 2_000,
    "👗🧥 👠" * 20,
    "\ud800 lone surrogate",
    "zero \x00 byte",
    "赤いドレス",
]
ODD_SIZES = [(1, 1), (1, 300), (300, 1), (2, 2), (640, 480)]
_DESCRIBE = """
import json, sys
from molar_retrieval.workspace.settings import EmbedSettings
from molar_retrieval.encoders.registry import describe
info = describe(EmbedSettings(**json.loads(sys.argv[1])))
heavy = {"torch", "transformers", "sentence_transformers", "timm", "torchvision", "huggingface_hub"} & set(sys.modules)
print(json.dumps([info.fingerprint, sorted(heavy)]))
"""


class EncoderContract:
    """Subclasses give a class-scoped fixture ``settings`` and, where they differ, the attributes below."""

    sees_images = True
    changes: tuple[dict[str, object], ...] = ({"max_text_tokens": 8},)
    """Settings each of which must change the fingerprint."""

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, settings: EmbedSettings) -> Encoder:
        return load(settings)

    def items(self) -> list[EncoderInput]:
        return [
            EncoderInput("blue cotton t-shirt", tiny_models.photo(1)),
            EncoderInput("coffee machine, red, number 7", None),
            EncoderInput(None, tiny_models.photo(2, (64, 120))),
            EncoderInput("wireless mouse usb receiver 2.4 GHz " * 3, tiny_models.photo(3, (200, 50))),
            EncoderInput("a cat", None),
        ]

    def test_is_an_encoder_and_keeps_its_word(self, encoder, settings):
        assert isinstance(encoder, Encoder)
        assert encoder.info == describe(settings)
        assert ("image" in encoder.info.modalities) == self.sees_images

    def test_blocks_cover_the_vector(self, encoder):
        edges = [(block.start, block.stop) for block in encoder.blocks]
        assert edges[0][0] == 0
        assert edges[-1][1] == encoder.dim
        assert all(left[1] == right[0] for left, right in pairwise(edges))
        assert {block.name for block in encoder.blocks} <= {"content", "content_text", "content_image"}

    def test_shape_type_and_length(self, encoder):
        rows = encoder.encode(self.items())
        assert rows.shape == (5, encoder.dim)
        assert rows.dtype == np.float32
        seen = [bool(item.text) or self.sees_images for item in self.items()]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.array(seen, float), atol=1e-5)

    def test_nothing_in_nothing_out(self, encoder):
        assert encoder.encode([]).shape == (0, encoder.dim)
        rows = encoder.encode([EncoderInput(), EncoderInput(""), EncoderInput(" \n")])
        assert not rows.any()

    def test_order_and_independence_of_the_batch(self, encoder):
        items = self.items()
        together = encoder.encode(items)
        alone = np.concatenate([encoder.encode([item]) for item in items])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(items[::-1])[::-1], together, atol=1e-5)

    def test_same_again(self, encoder):
        np.testing.assert_array_equal(encoder.encode(self.items()), encoder.encode(self.items()))

    def test_different_items_differ(self, encoder):
        rows = encoder.encode([EncoderInput("blue cotton t-shirt"), EncoderInput("coffee machine")])
        assert rows[0] @ rows[1] < 0.9999

    def test_a_missing_modality_leaves_its_block_empty(self, encoder):
        rows = encoder.encode([EncoderInput("blue shirt"), EncoderInput(None, tiny_models.photo(4))])
        for block in encoder.blocks:
            part = np.abs(rows[:, block.start : block.stop]).max(axis=1)
            assert bool(part[0]) == (block.name != "content_image")
            assert bool(part[1]) == (block.name != "content_text")

    def test_odd_texts(self, encoder, tmp_path, monkeypatch):
        photo = tmp_path / "photo.png"
        tiny_models.photo(5).save(photo)
        _forbid_network(monkeypatch)
        texts = [*ODD_TEXTS, str(photo)]
        plain = EncoderInput("blue cotton t-shirt", tiny_models.photo(1))
        rows = encoder.encode([plain, *(EncoderInput(text) for text in texts)])
        assert np.isfinite(rows).all()
        norms = np.linalg.norm(rows, axis=1)
        assert ((np.abs(norms - 1) < 1e-5) | (norms == 0)).all()
        blank = [not text.strip() for text in texts]
        assert (norms[1:][blank] == 0).all()
        np.testing.assert_allclose(rows[0], encoder.encode([plain])[0], atol=1e-5)
        # an address or a path is a text like any other, whatever lies there
        assert (norms[1:][["photo" in text or "base64" in text for text in texts]] > 0).all()
        photo.unlink()
        np.testing.assert_allclose(rows[-1], encoder.encode([EncoderInput(str(photo))])[0], atol=1e-5)

    def test_odd_images(self, encoder):
        if not self.sees_images:
            pytest.skip("sees no images")
        images = [tiny_models.photo(7, size) for size in ODD_SIZES] + [Image.new("RGB", (50, 50))]
        rows = encoder.encode([EncoderInput("a cat", image) for image in images])
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_the_fingerprint_holds_across_processes_and_without_heavy_imports(self, encoder, settings):
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        command = [sys.executable, "-c", _DESCRIBE, json.dumps(settings.model_dump(exclude_defaults=True))]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert json.loads(out) == [encoder.info.fingerprint, []]

    def test_the_fingerprint_follows_what_changes_the_output_and_nothing_else(self, settings):
        same = describe(settings).fingerprint
        for change in ({"batch_size": 3}, {"offline": True}, {"device": "cpu"}):
            assert describe(settings.model_copy(update=change)).fingerprint == same
        changed = [describe(settings.model_copy(update=change)).fingerprint for change in self.changes]
        assert len({same, *changed}) == 1 + len(self.changes)


def _forbid_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"an encoder asked the network for {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def settings_for(folder: Path, **changes: object) -> EmbedSettings:
    """Settings for a local folder, on the CPU in float32."""
    return EmbedSettings.model_validate({"model": str(folder), "device": "cpu", "dtype": "float32"} | changes)
