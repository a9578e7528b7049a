from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from embedding_fakes import DIM, FakeEncoder, Shop

from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace.artefacts import Manifest


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return Shop(tmp_path).embed(FakeEncoder()).folder


def test_open(version: Path) -> None:
    content = ContentVectors.open(version)
    assert isinstance(content.vectors.base, np.memmap)
    assert not content.vectors.flags.writeable
    assert content.vectors.shape == (12, DIM)
    assert content.dim == DIM
    assert content.blocks == (VectorBlock("content_text", 0, 8), VectorBlock("content_image", 8, 16))
    assert content.info["name"] == "fake"
    assert content.ids.row("item 3") == 3
    image = content.block("content_image")
    assert image is not None
    assert np.shares_memory(image, content.vectors)
    np.testing.assert_array_equal(image, content.vectors[:, 8:])
    assert content.block("content") is None


@pytest.mark.parametrize("name", ["vectors.safetensors", "items.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "rubbish"])
def test_damaged(version: Path, name: str, damage: str) -> None:
    data = (version / name).read_bytes()
    (version / name).unlink()
    if damage != "gone":
        (version / name).write_bytes(data[: len(data) // 2] if damage == "cut" else b"rubbish" * 20)
    with pytest.raises(StaleArtefactError) as caught:
        ContentVectors.open(version)
    assert "molar embed" in caught.value.hint


@pytest.mark.parametrize(
    "blocks", [[], [{"name": "content", "start": 0, "stop": 15}], [{"name": "x", "start": 1, "stop": 16}]]
)
def test_blocks_that_do_not_cover(version: Path, blocks: list[dict[str, object]]) -> None:
    manifest = Manifest.read(version)
    replace(manifest, settings={**manifest.settings, "blocks": blocks}).write(version)
    with pytest.raises(StaleArtefactError, match="blocks"):
        ContentVectors.open(version)


def test_items_that_do_not_fit(version: Path, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other", n=13).embed(FakeEncoder()).folder
    (version / "items.parquet").write_bytes((other / "items.parquet").read_bytes())
    with pytest.raises(StaleArtefactError, match="12 vectors for 13 items"):
        ContentVectors.open(version)
