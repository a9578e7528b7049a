"""Searching a trained shop by words, photos and items, for anybody or for somebody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from molar_indexes.recommender import Recommender
from molar_indexes.search import Likeness, Searcher
from molar_retrieval.columns import IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import query, words
from molar_retrieval.encoders import builtin, registry
from molar_retrieval.encoders.base import EncoderInput, VectorBlock
from molar_retrieval.encoders.builtin import image_block
from molar_retrieval.encoders.minilm import NumpyMiniLM
from molar_retrieval.errors import DataError, RequestError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings

K = 10


@pytest.fixture(scope="module")
def recommender(trained: Any) -> Iterator[Recommender]:
    with Recommender.open(trained.workspace) as opened:
        yield opened


@pytest.fixture(scope="module")
def items(trained: Any) -> list[dict[str, Any]]:
    catalogue = Catalogue.open(Workspace.open(trained.workspace)["catalogue"].require()[0])
    found = [item for batch in catalogue.batches([ITEM_ID, TITLE, IMAGE, "text"], 500) for item in batch.to_pylist()]
    return [item | {"path": catalogue.folder / item[IMAGE] if item[IMAGE] else None} for item in found]


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


TEXTS = ["black dress with lace", "[SEP] hi [MASK]", "a " * 400, "Küche é 商品 🧦", "x", "Straps & Co. 50% off!"]


def test_the_light_encoder_is_the_built_in_one() -> None:
    light = NumpyMiniLM(builtin.text_folder(), 256)
    whole = registry.load(EmbedSettings()).encode([EncoderInput(text=text) for text in TEXTS])
    found = np.stack([light.encode(text) for text in TEXTS])
    assert np.abs(found - whole[:, : found.shape[1]]).max() < 1e-4
    assert not whole[:, found.shape[1] :].any()
    assert not light.encode(" [SEP] ").any()


def test_an_item_is_found_by_its_own_words(recommender: Recommender, items: list[dict[str, Any]]) -> None:
    hits = [item[ITEM_ID] in ids(recommender.search(item["text"], k=3)) for item in items[:40]]
    assert np.mean(hits) > 0.9
    answer = recommender.search(items[0]["text"], k=3)
    assert answer.basis == "search"
    for item in answer.items:
        assert set(item.parts) == {"content", "words"}
        assert sum(item.parts.values()) == pytest.approx(item.score)
        assert max(item.parts.values()) <= 1 + 1e-6


def test_words_count_as_they_are_written(recommender: Recommender, items: list[dict[str, Any]]) -> None:
    word = items[5][TITLE].split()[0]
    best = recommender.generation.index.top("words", SparseVector(*query(word)), 500)
    having = {n for n, item in enumerate(items) if word.casefold() in words(item["text"])}
    assert {row for row, _ in best} == having


def test_an_item_is_found_by_its_altered_photo(recommender: Recommender, items: list[dict[str, Any]]) -> None:
    shown = [item for item in items if item["path"] is not None][:12]
    first = []
    for item in shown:
        with Image.open(item["path"]) as photo:
            answer = recommender.search(image=ImageOps.mirror(photo.convert("RGB")), k=3)
        assert set(answer.items[0].parts) == {"look"}
        first.append(ids(answer)[0] == item[ITEM_ID])
    assert np.mean(first) > 0.7
    assert ids(recommender.search(image=shown[0]["path"], k=1)) == [shown[0][ITEM_ID]]


def test_words_a_photo_and_an_item_may_ask_together(
    trained: Any, recommender: Recommender, items: list[dict[str, Any]]
) -> None:
    shown = next(item for item in items if item["path"] is not None)
    answer = recommender.search("shoes", image=shown["path"], k=K, user_id=trained.user)
    assert set(answer.items[0].parts) == {"content", "words", "look", "personal"}
    assert all(0 <= item.parts["personal"] <= 0.5 for item in answer.items)
    like = recommender.search(similar_to=items[0][ITEM_ID], k=K)
    assert items[0][ITEM_ID] not in ids(like)
    assert ids(like) == ids(recommender.similar(items[0][ITEM_ID], k=K))


def test_somebody_gets_what_suits_them_first(trained: Any, recommender: Recommender) -> None:
    plain, own = recommender.search("shoes", k=40), recommender.search("shoes", k=40, user_id=trained.user)
    suits = {item.item_id: item.parts["personal"] for item in own.items}
    both = [item_id for item_id in ids(plain) if item_id in suits]
    assert np.mean([suits[i] for i in ids(own)[:10]]) > np.mean([suits[i] for i in both[:10]])
    user = recommender.generation.users.get(trained.user)
    had = {recommender.generation.table.item_id(int(row)) for row in user.history}
    assert not had & set(ids(recommender.search("shoes", k=100, user_id=trained.user, filter_seen=True)))


def test_conditions_act_inside_the_search(recommender: Recommender) -> None:
    answer = recommender.search("something red", k=K, where="category = Shoes")
    assert {item.payload["category"] for item in answer.items} == {"Shoes"}
    less = recommender.search("something red", k=K, where="category = Shoes", exclude=[answer.items[0].item_id])
    assert answer.items[0].item_id not in ids(less)


def test_what_cannot_be_searched_is_refused(trained: Any, recommender: Recommender, tmp_path: Path) -> None:
    for wrong in ({}, {"text": "  "}, {"text": "!?"}, {"similar_to": "nobody"}, {"text": "a", "user_id": "nobody"}):
        with pytest.raises(RequestError):
            recommender.search(**wrong, fallback="error")  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        recommender.search("a", k=0)
    (tmp_path / "x.jpg").write_bytes(b"no photo")
    for path in (tmp_path / "x.jpg", tmp_path / "none.jpg", tmp_path):
        with pytest.raises(DataError, match="is no photo"):
            recommender.search(image=path)


def test_another_encoder_is_refused(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = Searcher(recommender.generation)
    maps = recommender.generation.table.queries
    assert maps is not None
    monkeypatch.setitem(maps.encoder, "fingerprint", "another")  # type: ignore[arg-type]
    with pytest.raises(StaleArtefactError, match="embedded by builtin"):
        searcher.text("shoes")
    monkeypatch.setitem(maps.encoder, "family", "external")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="made elsewhere"):
        searcher.text("shoes")


def test_which_dimensions_are_a_look() -> None:
    assert image_block({"family": "builtin", "modalities": ["text"]}, ()) is None
    maps = registry.describe(EmbedSettings())
    blocks = (VectorBlock("content_text", 0, 384), VectorBlock("content_image", 384, 2048))
    found = image_block({"family": maps.family, "modalities": maps.modalities}, blocks)
    assert found is not None
    assert (found.start, found.stop) == (768, 2048)
    fused = image_block({"family": "qwen", "modalities": ["text", "image"]}, (VectorBlock("content", 0, 64),))
    assert fused is not None
    assert (fused.start, fused.stop) == (0, 64)


def test_what_is_not_there_is_said(recommender: Recommender) -> None:
    for absent in ("garden gnome", "motor oil", "fever thermometer"):
        answer = recommender.search(absent, k=3)
        assert any(f"nothing here is clearly like {absent!r}" in note for note in answer.notes)
        assert max(item.similarity for item in answer.items if item.similarity is not None) < 0.2
    there = [("footwear", 0.15), ("shoes", 1.0), ("red dress", 1.0)]
    for words_, least in there:
        answer = recommender.search(words_, k=3)
        assert not answer.notes
        assert answer.items[0].similarity is not None
        assert answer.items[0].similarity >= least


def test_only_words_have_a_similarity(recommender: Recommender, items: list[dict[str, Any]]) -> None:
    answer = recommender.search(similar_to=items[0][ITEM_ID], k=3)
    assert [item.similarity for item in answer.items] == [None] * 3


def test_likeness_is_between_chance_and_own_words() -> None:
    random = np.random.default_rng(0)
    items = random.normal(size=(500, 32))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    asked = random.normal(size=(32, 32))
    asked[:, 16:] = 0  # of no photo
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    few = Likeness.of(items, asked)
    assert few is not None
    assert few.chance < few.notable < few.own < 1
    assert (few.similarity(few.chance), few.similarity(few.own), few.similarity(-1)) == (0.0, 1.0, 0.0)
    there = np.concatenate([asked[:28], np.where(np.arange(32) < 16, items[:4], 0)])
    some = Likeness.of(items, there)
    assert some is not None
    assert some.notable < few.notable + 0.1  # a few that are in stock change little
    assert Likeness.of(np.zeros((3, 4)), np.eye(4)) is None
