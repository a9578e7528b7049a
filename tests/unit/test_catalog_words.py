"""Words as sparse vectors: BM25 as it is written down, without a vocabulary."""

import math
from collections import Counter

import numpy as np
import pytest

from molar_retrieval.data.text_features import bm25, dimension, query, words

TEXTS = ["Black dress, black lace", "white dress", None, "", "lace lace curtain in white", "黒いドレス"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Black DRESS, V-neck", ["black", "dress", "v", "neck"]),
        ("Élan straße 50%_x", ["élan", "strasse", "50", "x"]),
        ("黒いドレス", ["黒い", "いド", "ドレ", "レス"]),
        ("商 dress品", ["商", "dress", "品"]),
        (" .,! ", []),
        ("", []),
    ],
)
def test_words_of_any_script(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_weights_are_those_of_bm25() -> None:
    found = bm25(TEXTS)
    tokens = [Counter(words(text or "")) for text in TEXTS]
    usual = sum(t.total() for t in tokens) / len(TEXTS)
    for row, own in enumerate(tokens):
        assert found[row].nnz == len(own)
        for word, times in own.items():
            having = sum(word in other for other in tokens)
            rarity = math.log(1 + (len(TEXTS) - having + 0.5) / (having + 0.5))
            weight = rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * own.total() / usual))
            assert found[row, dimension(word)] == pytest.approx(weight, rel=1e-6)


def test_a_query_is_one_at_each_of_its_words() -> None:
    places, values = query("lace LACE dress")
    assert places == sorted({dimension("lace"), dimension("dress")})
    assert values == [1.0, 1.0]
    found = bm25(TEXTS).tocoo()  # cutting columns out takes an array of all there could be, which are 8 GB
    asked = np.isin(found.col, places)
    scores = np.bincount(found.row[asked], found.data[asked], len(TEXTS))
    assert int(np.argmax(scores)) == 0
    assert np.flatnonzero(scores).tolist() == [0, 1, 4]


def test_no_texts_are_no_weights() -> None:
    assert bm25([]).shape[0] == 0
    assert bm25([None, ""]).nnz == 0
