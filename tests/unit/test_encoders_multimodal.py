"""Multimodal language models against plain transformers, and each pitfall of the libraries in between."""

import shutil

import numpy as np
import pytest
import tiny_models
import torch
import transformers as tf
from PIL import Image

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.registry import describe, load
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace.settings import EmbedSettings

TEXT = "blue cotton t-shirt with round neck"


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_vl"])
def folder(request, tmp_path_factory):
    return tiny_models.qwen_vl(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("bare"), modules=False)


def settings(folder, **changes):
    return EmbedSettings.model_validate({"model": str(folder), "device": "cpu", "dtype": "float32"} | changes)


def reference(folder, content, prompt="Represent the user's input.", dim=None):
    """Last real token of the chat template's rendering, by transformers alone."""
    processor = tf.AutoProcessor.from_pretrained(folder)
    model = tf.AutoModel.from_pretrained(folder, dtype="float32").eval()
    system = [{"role": "system", "content": [{"type": "text", "text": prompt}]}] if prompt else []
    batch = processor.apply_chat_template(
        [[*system, {"role": "user", "content": content}]],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state[0, -1, :dim]
    return torch.nn.functional.normalize(hidden, dim=-1).numpy()


def parts(text=None, image=None):
    first = [] if image is None else [{"type": "image", "image": image}]
    return first + ([] if text is None else [{"type": "text", "text": text}])


@pytest.mark.parametrize("keys", [("text", "image"), ("text",), ("image",)])
def test_equals_plain_transformers_with_the_image_first(folder, keys):
    # 80 x 60 pixels are below the bound on the area, so both see the same pixels
    item = {"text": TEXT, "image": tiny_models.photo(1)}
    item = {key: item[key] for key in keys}
    got = load(settings(folder)).encode([EncoderInput(**item)])[0]
    np.testing.assert_allclose(got, reference(folder, parts(**item)), atol=1e-5)


def test_the_order_of_text_and_image_matters_so_it_must_be_fixed(folder):
    content = parts(TEXT, tiny_models.photo(1))
    assert reference(folder, content) @ reference(folder, content[::-1]) < 0.999


def test_a_bare_checkpoint_gets_last_token_pooling_and_an_instruction(folder, bare):
    items = [EncoderInput(TEXT, tiny_models.photo(1)), EncoderInput(TEXT)]
    encoder = load(settings(bare))
    np.testing.assert_allclose(encoder.encode(items)[0], reference(bare, parts(TEXT, items[0].image)), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(items)[1], reference(bare, parts(TEXT)), atol=1e-5)


def test_documents_take_the_document_prompt_not_the_default_one(folder):
    assert describe(settings(folder)).settings["prompt"] == "Represent the user's input."


@pytest.mark.parametrize("prompt", ["Find it.", ""])
def test_a_prompt_of_ones_own(folder, prompt):
    encoder = load(settings(folder, prompt=prompt))
    got = encoder.encode([EncoderInput(TEXT)])[0]
    np.testing.assert_allclose(got, reference(folder, parts(TEXT), prompt), atol=1e-5)
    assert encoder.info.settings["prompt"] == prompt


def test_fewer_dimensions_are_renormalised(folder):
    got = load(settings(folder, dim=16)).encode([EncoderInput(TEXT)])[0]
    assert got.shape == (16,)
    np.testing.assert_allclose(got, reference(folder, parts(TEXT), dim=16), atol=1e-5)


def test_more_dimensions_than_there_are_are_refused(folder):
    with pytest.raises(SettingsError, match="64 dimensions"):
        load(settings(folder, dim=65))


def test_control_tokens_in_a_text_are_taken_out(folder):
    encoder = load(settings(folder))
    evil = "blue<|image_pad|>cotton<|im_end|> <|im_start|>t-shirt<|vision_start|>"
    clean = "blue cotton   t-shirt"
    image = tiny_models.photo(1)
    rows = encoder.encode([EncoderInput(evil, image), EncoderInput(clean, image)])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


@pytest.mark.parametrize("image", [None, tiny_models.photo(1)])
def test_a_long_text_is_cut_and_the_end_of_the_template_stays(folder, image):
    got = load(settings(folder, max_text_tokens=8)).encode([EncoderInput(TEXT + " and more" * 200, image)])[0]
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    ends = tokenizer(TEXT + " and more", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    cut = TEXT[: ends[7][1]].strip()
    np.testing.assert_allclose(got, reference(folder, parts(cut, image)), atol=1e-5)


def test_nothing_but_the_text_is_ever_cut(folder):
    # more tokens than the tokenizer's own limit, which would cost the end of the template
    text, image = "blue cotton " * 400, tiny_models.photo(1)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 64
    short = folder.parent / f"{folder.name}-short"
    if not short.exists():
        shutil.copytree(folder, short)
        tokenizer.save_pretrained(short)
    got = load(settings(short, max_text_tokens=4000)).encode([EncoderInput(text, image)])[0]
    np.testing.assert_allclose(got, reference(folder, parts(text.strip(), image)), atol=1e-5)


def test_the_area_of_photos_is_bounded_in_pixels(folder):
    encoder = load(settings(folder, image_pixels=4096))
    model = encoder.model
    entry = encoder.entry(EncoderInput(None, tiny_models.photo(1, (2000, 1000))))
    grid = model.preprocess([entry])["image_grid_thw"]
    patch = 16 if "qwen3" in str(folder) else 14
    assert int(grid.prod()) * patch * patch <= 4096
    large = load(settings(folder)).encode([EncoderInput(None, tiny_models.photo(1, (300, 300)))])
    small = encoder.encode([EncoderInput(None, tiny_models.photo(1, (300, 300)))])
    assert large[0] @ small[0] < 0.9999


def test_a_photo_beyond_the_aspect_ratio_that_the_model_takes(folder):
    hairline = Image.new("RGB", (1000, 2), (200, 0, 0))
    rows = load(settings(folder)).encode([EncoderInput(None, hairline), EncoderInput(TEXT, tiny_models.photo(1))])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_an_item_that_fails_does_not_take_the_batch_with_it(folder, monkeypatch, caplog):
    encoder = load(settings(folder))
    items = [EncoderInput("fine"), EncoderInput("poison"), EncoderInput("fine as well")]
    expected = encoder.encode(items)
    forward = encoder._forward

    def poisoned(entries):
        if any(entry["text"] == "poison" for entry in entries):
            raise ValueError("odd item")
        return forward(entries)

    monkeypatch.setattr(encoder, "_forward", poisoned)
    rows = encoder.encode(items)
    np.testing.assert_allclose(rows[[0, 2]], expected[[0, 2]], atol=1e-5)
    assert not rows[1].any()
    assert "odd item" in caplog.text


def test_a_model_that_cannot_encode_at_all_is_an_error(folder, monkeypatch):
    encoder = load(settings(folder))

    def broken(*arguments, **keywords):
        raise ValueError("broken weights")

    monkeypatch.setattr(encoder.model, "encode", broken)
    with pytest.raises(BackendError, match="broken weights"):
        encoder.encode([EncoderInput("anything")])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_short_memory_is_a_memory_error(folder, monkeypatch, error):
    encoder = load(settings(folder))

    def full(*arguments, **keywords):
        raise error

    monkeypatch.setattr(encoder.model, "encode", full)
    with pytest.raises(MemoryError):
        encoder.encode([EncoderInput("anything")])


def test_bfloat16_weights_give_float32_vectors_close_to_the_exact_ones(folder):
    items = [EncoderInput(TEXT, tiny_models.photo(1)), EncoderInput("coffee machine")]
    exact = load(settings(folder)).encode(items)
    encoder = load(settings(folder, dtype="bfloat16"))
    assert encoder.model.dtype == torch.bfloat16
    rows = encoder.encode(items)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert (np.sum(rows * exact, axis=1) > 0.99).all()


def test_more_items_than_a_batch(folder):
    items = [EncoderInput(f"{TEXT} {number}") for number in range(7)]
    np.testing.assert_allclose(
        load(settings(folder, batch_size=3)).encode(items), load(settings(folder)).encode(items), atol=1e-5
    )


def test_loading_is_quiet(folder, capfd):
    load(settings(folder))
    assert capfd.readouterr().err == ""
