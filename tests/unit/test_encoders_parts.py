"""The small parts that encoders are made of: text, photos, unit vectors, odd items, cards, torch."""

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from molar_retrieval.encoders import base
from molar_retrieval.encoders.base import TextPreparation, counted_cut, encode_rows, fuse, unit
from molar_retrieval.encoders.checkpoint import Checkpoint
from molar_retrieval.encoders.efficientnet import bounded, square, within_aspect
from molar_retrieval.encoders.sentence import special_tokens, token_cut
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.settings import EmbedSettings

SPECIAL = ["<|im_end|>", "<|im_start|>", "<|im|>", "<s>"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*SPECIAL, "a", " ", "<|im_", "end|>", "<", "|>", "é", "👗"]), max_size=12).map("".join)
)
def test_no_control_token_is_left_or_made(text):
    prepared = TextPreparation(SPECIAL)(text)
    assert prepared is None or (prepared and not any(token in prepared for token in SPECIAL))


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("", None), (" <s> ", None), ("a<s>b", "a b")])
def test_what_is_left_of_a_text(text, expected):
    assert TextPreparation(SPECIAL)(text) == expected


def test_a_lone_surrogate_becomes_harmless():
    assert TextPreparation([])("a\ud800b").encode("utf-8").startswith(b"a")


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 20))
def test_cutting_by_count_keeps_the_longest_beginning(text, limit):
    cut = counted_cut(lambda part: len(part.encode()), limit)(text)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit
    assert cut == text or len(text[: len(cut) + 1].encode()) > limit


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(tiny_models.qwen_vl(tmp_path_factory.mktemp("tokens")))


def test_all_control_tokens_of_a_tokenizer_are_known(tokenizer):
    assert set(tiny_models.QWEN_SPECIAL) <= special_tokens(tokenizer)


@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=80), limit=st.integers(1, 30))
def test_cutting_by_tokens(tokenizer, text, limit):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    cut = token_cut(tokenizer, limit)(text)
    assert text.startswith(cut)
    # a character of several bytes may be cut only as a whole, so it can bring up to three more tokens
    assert len(tokenizer(cut, add_special_tokens=False)["input_ids"]) <= limit + 3
    assert (cut == text) or len(ids) > limit


def test_a_slow_tokenizer_is_cut_by_counting():
    class Slow:
        is_fast = False

        def __call__(self, text, add_special_tokens):
            return {"input_ids": text.split()}

    assert token_cut(Slow(), 2)("one two three").strip() == "one two"


sizes = st.tuples(st.integers(1, 600), st.integers(1, 600))


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(1, 250))
def test_aspect_is_bounded_and_the_photo_is_in_it(size, ratio):
    image = Image.new("RGB", size, (1, 2, 3))
    padded = within_aspect(image, ratio)
    assert max(padded.size) <= ratio * min(padded.size)
    assert padded is image or max(size) > ratio * min(size)
    assert (np.asarray(padded) == (1, 2, 3)).all(axis=2).sum() == size[0] * size[1]


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(16, 100_000))
def test_area_is_bounded(size, pixels):
    image = bounded(Image.new("RGB", size), pixels)
    if size[0] * size[1] <= 4 * pixels:
        assert image.size == size
    elif min(image.size) > 1:
        assert image.width * image.height <= 4 * pixels + sum(image.size)


@pytest.mark.parametrize("size", [(1, 1), (100, 5000), (5000, 100), (300, 200), (224, 224), (4000, 3000)])
def test_a_square_shows_the_whole_photo_on_white(size):
    out = np.asarray(square(Image.new("RGB", size, (200, 0, 0)), 224))
    assert out.shape == (224, 224, 3)
    red = (np.abs(out.astype(int) - (200, 0, 0)).max(axis=2) < 40).any()
    assert red
    if size[0] != size[1]:
        assert (out[0, 0] == 255).all()


def test_unit_rows_and_zero_rows():
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert rows.dtype == np.float32


def test_the_cosine_of_fused_rows_is_the_weighted_mean_of_the_cosines():
    random = np.random.default_rng(0)
    left, right = unit(random.normal(size=(2, 5))), unit(random.normal(size=(2, 7)))
    rows = fuse([(0.7, left), (0.3, right)])
    assert rows[0] @ rows[1] == pytest.approx(0.7 * left[0] @ left[1] + 0.3 * right[0] @ right[1], abs=1e-6)
    alone = fuse([(0.7, left), (0.3, np.zeros_like(right))])
    np.testing.assert_allclose(alone[:, :5], left, atol=1e-6)


def encode_numbers(numbers):
    if any(number < 0 for number in numbers):
        raise ValueError("negative")
    return np.array([[number, 1] for number in numbers], np.float32)


def test_good_items_are_kept_and_bad_ones_dropped(caplog):
    rows = encode_rows([1, -1, 3], encode_numbers, dim=2, batch_size=9, probe=0, model="m")
    np.testing.assert_array_equal(rows, [[1, 1], [0, 0], [3, 1]])
    assert "negative" in caplog.text


def test_vectors_that_are_not_finite_are_dropped(caplog):
    rows = encode_rows([1, float("nan")], encode_numbers, dim=2, batch_size=9, probe=0, model="m")
    assert not rows[1].any()
    assert "finite" in caplog.text


def test_a_broken_model_is_told_from_a_bad_item():
    with pytest.raises(BackendError, match="negative"):
        encode_rows([1, -1], encode_numbers, dim=2, batch_size=9, probe=-5, model="m")


def test_what_is_missing_gets_zeros_and_the_rest_goes_in_batches():
    sizes = []

    def encode(numbers):
        sizes.append(len(numbers))
        return encode_numbers(numbers)

    rows = encode_rows([None, 1, None, 2, 3, None], encode, dim=2, batch_size=2, probe=0, model="m")
    np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [0, 0], [2, 1], [3, 1], [0, 0]])
    assert sizes == [2, 1]
    assert encode_rows([None], encode, dim=2, batch_size=2, probe=0, model="m").tolist() == [[0, 0]]


@pytest.mark.parametrize("calls_that_fit", [0, 1, 2])
def test_short_memory_is_passed_on(calls_that_fit):
    calls = []

    def encode(numbers):
        calls.append(numbers)
        if len(calls) > calls_that_fit:
            raise MemoryError
        if len(numbers) > 1:
            raise ValueError("odd")
        return np.ones((1, 2), np.float32)

    with pytest.raises(MemoryError):
        encode_rows([1, 2], encode, dim=2, batch_size=9, probe=0, model="m")


def described(folder):
    checkpoint = Checkpoint(folder, "1", "1", {}, [], lambda: folder)
    return checkpoint.licence, checkpoint.languages


@pytest.mark.parametrize(
    ("front", "licence", "languages"),
    [
        ("license: mit\nlanguage: en", "mit", ("en",)),
        ("language:\n- en\n- de\nlicense: 'Apache-2.0'", "apache-2.0", ("en", "de")),
        ("language: [multilingual]\ntags:\n- x", "unknown", ("mul",)),
        ("tags:\n- license: mit", "unknown", ()),
        ("language: no\nlicense:", "unknown", ("no",)),
        ("license: [mit", "unknown", ()),
        ("- license", "unknown", ()),
    ],
)
def test_what_a_card_says(front, licence, languages, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nlicense: no\n", "utf-8")
    assert described(tmp_path) == (licence, languages)


def test_without_a_card(tmp_path):
    assert described(tmp_path) == ("unknown", ())


@pytest.mark.parametrize(
    ("changes", "large", "cpu", "expected"),
    [
        ({"device": "cpu"}, True, True, "bfloat16"),
        ({"device": "cpu"}, True, False, "float32"),
        ({"device": "cuda"}, True, False, "bfloat16"),
        ({"device": "cuda"}, False, True, "float32"),
        ({"dtype": "float16"}, False, False, "float16"),
        ({"dtype": "float32"}, True, True, "float32"),
    ],
)
def test_bfloat16_where_it_pays(changes, large, cpu, expected, monkeypatch):
    monkeypatch.setattr(base, "_cpu_has_bfloat16", lambda: cpu)
    assert base.weights_dtype(EmbedSettings(**changes), large=large) == expected


def test_the_processor_is_asked(monkeypatch):
    ask = base._cpu_has_bfloat16.__wrapped__
    monkeypatch.setattr(base.Path, "read_text", lambda *a, **k: "processor: 0\nflags\t\t: fpu avx512_bf16 sse\n")
    assert ask()
    monkeypatch.setattr(base.Path, "read_text", lambda *a, **k: "Features\t: fp asimd\nmodel name: bf16\n")
    assert not ask()
