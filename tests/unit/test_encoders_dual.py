"""CLIP and SigLIP against plain transformers."""

import numpy as np
import pytest
import tiny_models
import torch
import transformers as tf
from PIL import Image

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import EmbedSettings

TEXT = "a photo of a cat"


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    return getattr(tiny_models, request.param)(tmp_path_factory.mktemp(request.param))


def settings(folder, **changes):
    return EmbedSettings.model_validate({"model": str(folder), "device": "cpu"} | changes)


def reference(folder, text, image):
    """Both unit vectors by transformers alone; SigLIP padded as it was trained."""
    model = tf.AutoModel.from_pretrained(folder).eval()
    processor = tf.AutoProcessor.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 32} if "siglip" in str(folder) else {"padding": True}
    with torch.inference_mode():
        vectors = [
            model.get_text_features(**processor(text=[text], truncation=True, return_tensors="pt", **padding)),
            model.get_image_features(**processor(images=[image], return_tensors="pt")),
        ]
    return [torch.nn.functional.normalize(vector.pooler_output[0], dim=-1).numpy() for vector in vectors]


def test_both_vectors_equal_plain_transformers(folder):
    encoder = load(settings(folder))
    image = tiny_models.photo(1)
    row = encoder.encode([EncoderInput(TEXT, image)])[0]
    text, picture = reference(folder, TEXT, image)
    np.testing.assert_allclose(row, np.concatenate([text, picture]) / np.sqrt(2), atol=1e-5)


def test_one_modality_alone_fills_the_row(folder):
    encoder = load(settings(folder))
    text, picture = reference(folder, TEXT, tiny_models.photo(1))
    rows = encoder.encode([EncoderInput(TEXT), EncoderInput(None, tiny_models.photo(1))])
    np.testing.assert_allclose(rows[0, : len(text)], text, atol=1e-5)
    np.testing.assert_allclose(rows[1, len(text) :], picture, atol=1e-5)


def test_the_end_of_text_token_survives_a_long_text_and_not_the_text_itself(folder):
    encoder = load(settings(folder))
    end = "<|endoftext|>" if "siglip" not in str(folder) else "</s>"
    rows = encoder.encode([EncoderInput(f"a cat {end} on a sofa"), EncoderInput("a cat   on a sofa")])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    long = "a photo of a cat on a white sofa " * 30
    width = encoder.dim // 2
    np.testing.assert_allclose(
        encoder.encode([EncoderInput(long)])[0, :width], reference(folder, long, tiny_models.photo(1))[0], atol=1e-5
    )


def test_texts_of_siglip_are_padded_to_their_full_length(tmp_path):
    folder = tiny_models.siglip(tmp_path / "siglip")
    model = tf.AutoModel.from_pretrained(folder).eval()
    processor = tf.AutoProcessor.from_pretrained(folder)
    texts = ["a cat", "a photo of a cat on a white sofa"]
    with torch.inference_mode():
        together = model.get_text_features(**processor(text=texts, padding=True, return_tensors="pt")).pooler_output
        alone = model.get_text_features(**processor(text=texts[:1], padding=True, return_tensors="pt")).pooler_output
    assert (together[0] - alone[0]).abs().max() > 0.01, "the pitfall is gone: padding no longer matters"
    encoder = load(settings(folder))
    rows = encoder.encode([EncoderInput(text) for text in texts])
    np.testing.assert_allclose(rows[0], encoder.encode([EncoderInput("a cat")])[0], atol=1e-6)


def test_a_hairline_photo_costs_no_gigabytes(folder, monkeypatch):
    encoder = load(settings(folder))
    sizes, encode = [], encoder.model.encode
    monkeypatch.setattr(
        encoder.model,
        "encode",
        lambda entries, **how: sizes.extend(e["image"].size for e in entries) or encode(entries, **how),
    )
    rows = encoder.encode([EncoderInput(None, Image.new("RGB", (20_000, 1), (9, 9, 9)))])
    assert sizes == [(20_000, 1_000)]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_its_own_limit_of_tokens_wins(folder):
    limit = 32 if "siglip" in str(folder) else 77
    assert describe(settings(folder)).settings["max_text_tokens"] == limit
    assert describe(settings(folder, max_text_tokens=9)).settings["max_text_tokens"] == 9


@pytest.mark.parametrize("change", [{"dim": 8}, {"prompt": "Say it."}, {"revision": "main"}])
def test_settings_that_it_would_have_to_ignore_are_refused(folder, change):
    with pytest.raises(SettingsError, match=next(iter(change))):
        describe(settings(folder, **change))


def test_a_clip_model_in_sentence_transformers_layout(tmp_path):
    inner = tiny_models.clip(tmp_path / "st" / "0_CLIPModel")
    (inner.parent / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]', "utf-8"
    )
    items = [EncoderInput(TEXT, tiny_models.photo(1))]
    encoder = load(settings(inner.parent))
    assert encoder.info.family == "dual-encoder"
    np.testing.assert_allclose(encoder.encode(items), load(settings(inner)).encode(items), atol=1e-6)
