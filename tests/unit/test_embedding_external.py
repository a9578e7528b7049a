from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_fakes import FakeEncoder, Shop, planned, run

from molar_retrieval.embedding import ContentVectors, EmbedReport, embed
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.settings import EmbedSettings

DIM = 5


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.prepare()
    return shop


def write(shop: Shop, ids: list[Any], vectors: Any, kind: pa.DataType | None = None) -> Path:
    path = shop.folder / "vectors.parquet"
    pq.write_table(pa.table({"item_id": ids, "vector": pa.array(vectors, kind or pa.list_(pa.float32()))}), path)
    return path


def take(shop: Shop, path: Path) -> EmbedReport:
    return embed(shop.workspace, EmbedSettings(), vectors=path)


def ids_of(shop: Shop) -> list[str]:
    return [item["item_id"] for item in shop.items]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float64(), DIM), pa.large_list(pa.float16()), pa.list_(pa.int32())],
    ids=str,
)
def test_vectors_are_taken_in_the_order_of_the_catalogue(shop: Shop, kind: pa.DataType) -> None:
    matrix = np.arange(12 * DIM).reshape(12, DIM) % 7 + 1
    ids = ids_of(shop)[::-1]
    values = matrix.astype(np.float16) if kind.value_type == pa.float16() else matrix
    path = write(shop, ids, list(values) if kind.value_type == pa.float16() else values.tolist(), kind)
    report = take(shop, path)
    content = ContentVectors.open(report.folder)
    expected = matrix[::-1] / np.linalg.norm(matrix[::-1], axis=1, keepdims=True)
    np.testing.assert_allclose(content.vectors, expected, rtol=1e-6)
    assert content.blocks == (VectorBlock("content", 0, DIM),)
    assert content.info["family"] == "external"
    assert (report.encoded, report.missing, report.unknown, report.dim) == (0, 0, 0, DIM)
    manifest = Manifest.read(report.folder)
    assert manifest.inputs["catalogue"] == shop.workspace["catalogue"].manifest.fingerprint
    assert take(shop, path).up_to_date


def test_missing_and_unknown_are_counted(shop: Shop) -> None:
    ids = [*ids_of(shop)[2:], "who", "what", "zero"]
    report = take(shop, write(shop, ids, np.ones((len(ids), DIM)).tolist()))
    assert (report.missing, report.unknown, report.without_content) == (2, 3, 2)
    vectors = ContentVectors.open(report.folder).vectors
    assert not vectors[:2].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[2:], axis=1), 1, rtol=1e-6)
    assert len(report.notes) == 2


def test_zero_vector_stays_zero(shop: Shop) -> None:
    matrix = np.ones((12, DIM))
    matrix[4] = 0
    report = take(shop, write(shop, ids_of(shop), matrix.tolist()))
    assert report.without_content == 1
    assert not ContentVectors.open(report.folder).vectors[4].any()


def test_other_file_is_another_version(shop: Shop) -> None:
    first = take(shop, write(shop, ids_of(shop), np.ones((12, DIM)).tolist()))
    second = take(shop, write(shop, ids_of(shop), np.eye(12, DIM).tolist()))
    assert second.fingerprint != first.fingerprint
    assert Manifest.read(second.folder).settings["encoder"]["revision"]


def test_encoding_afterwards_starts_from_nothing(shop: Shop) -> None:
    take(shop, write(shop, ids_of(shop), np.ones((12, DIM)).tolist()))
    named = EmbedSettings(model="builtin", batch_size=4)
    assert embed(shop.workspace, named, planner=planned(FakeEncoder())).encoded == 12
    assert take(shop, shop.folder / "vectors.parquet").encoded == 0


def test_vectors_of_a_file_stay_until_an_encoder_is_named(shop: Shop) -> None:
    brought = take(shop, write(shop, ids_of(shop), np.ones((12, DIM)).tolist()))
    kept = run(shop.workspace, FakeEncoder())
    assert (kept.up_to_date, kept.fingerprint, kept.encoder) == (True, brought.fingerprint, "vectors.parquet")
    shop.add("one more", with_image=False)
    shop.prepare()
    with pytest.raises(SettingsError, match=r"vectors\.parquet") as refused:
        run(shop.workspace, FakeEncoder())
    assert "--vectors vectors.parquet" in refused.value.hint
    assert "--model builtin" in refused.value.hint
    assert shop.version().name == brought.fingerprint


def spoilt(row: int, value: Any) -> list[Any]:
    vectors: list[Any] = np.ones((12, DIM)).tolist()
    vectors[row] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (spoilt(3, [1.0] * (DIM - 1)), "row 4: it has 4 numbers, and the first row 5"),
        (spoilt(0, [1.0]), "row 2: it has 5 numbers, and the first row 1"),
        (spoilt(5, None), "row 6: it has no vector"),
        (spoilt(11, [1.0, float("nan"), 1, 1, 1]), "row 12: .*NaN"),
        (spoilt(2, [1.0, None, 1, 1, 1]), "row 3: .*missing"),
        (spoilt(2, [1.0, float("inf"), 1, 1, 1]), "row 3: .*infinite"),
        ([None] * 12, "no vectors"),
    ],
)
def test_wrong_vectors(shop: Shop, vectors: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        take(shop, write(shop, ids_of(shop), vectors))
    assert "vectors.parquet" in caught.value.message
    assert caught.value.hint
    assert shop.workspace["content"].current is None


def test_repeated_id(shop: Shop) -> None:
    with pytest.raises(DataError, match="row 13: the id 'item 0' has a vector already"):
        take(shop, write(shop, [*ids_of(shop), "item 0"], np.ones((13, DIM)).tolist()))


def test_no_known_id(shop: Shop) -> None:
    with pytest.raises(DataError, match="none of its 2 item ids"):
        take(shop, write(shop, ["a", "b"], np.ones((2, DIM)).tolist()))


def test_not_parquet(shop: Shop) -> None:
    path = shop.folder / "vectors.parquet"
    path.write_text("item_id,vector\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        take(shop, path)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        take(shop, shop.folder / "nothing.parquet")


@pytest.mark.parametrize("name", ["item_id", "vector"])
def test_column_missing(shop: Shop, name: str) -> None:
    path = write(shop, ids_of(shop), np.ones((12, DIM)).tolist())
    pq.write_table(pq.read_table(path).drop_columns(name), path)
    with pytest.raises(DataError, match=f"no column {name}"):
        take(shop, path)


def test_column_of_words(shop: Shop) -> None:
    with pytest.raises(DataError, match="holds string"):
        take(shop, write(shop, ids_of(shop), ["1,2"] * 12, pa.string()))


def test_numeric_ids(shop: Shop) -> None:
    for number, item in enumerate(shop.items):
        item["item_id"] = str(number)
    shop.prepare()
    report = take(shop, write(shop, list(range(12)), np.ones((12, DIM)).tolist()))
    assert report.missing == 0
