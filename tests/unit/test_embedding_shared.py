"""Vectors by several workers: the same files as by one process, and only what is missing after an interruption."""

from pathlib import Path
from typing import Any

import pytest
from embedding_fakes import FakeEncoder, FakePlanner, Shop, run

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.embedding import embed, pipeline
from molar_retrieval.embedding.pipeline import PendingTexts, Texts
from molar_retrieval.embedding.vector_cache import shard_folder, shard_paths
from molar_retrieval.encoders.base import EncoderPlan
from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner, Runner
from molar_retrieval.workspace.settings import EmbedSettings

FILES = ("vectors.safetensors", "items.parquet", "rejects.parquet")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(pipeline, "_BATCHES", 1)
    shop = Shop(tmp_path)
    shop.truncate("images/3.png")
    shop.prepare()
    return shop


@pytest.fixture
def alone(shop: Shop, tmp_path: Path) -> list[bytes]:
    """The files by one process, of the same catalogue."""
    place = Workspace.for_catalogue(tmp_path / "alone", shop.folder)
    prepare_catalogue(shop.folder, place)
    run(place, FakeEncoder())
    return files(place)


def files(workspace: Workspace) -> list[bytes]:
    folder = workspace["content"].current
    assert folder is not None
    return [(folder / name).read_bytes() for name in FILES]


def by_two(shop: Shop, planner: Any = None, runner: Runner | None = None) -> Any:
    return embed(
        shop.workspace, EmbedSettings(batch_size=4), planner=planner or FakePlanner(), runner=runner or ProcessRunner(2)
    )


def test_two_processes_write_the_same_files(shop: Shop, alone: list[bytes], tmp_path: Path) -> None:
    report = by_two(shop, FakePlanner(tmp_path / "log"))
    assert (report.encoded, report.items, report.rejected_images) == (12, 12, 1)
    assert files(shop.workspace) == alone
    assert len((tmp_path / "log").read_text().split()) == 3  # batches, each of them once
    assert not list(shop.workspace["content"].root.glob("*.partial"))
    assert by_two(shop).up_to_date


class UntilTwo(ProcessRunner):
    """Is interrupted when two shards are there."""

    def _made(self, *arguments: Any) -> Any:
        for n, made in enumerate(super()._made(*arguments), 1):
            yield made
            if n == 2:
                raise KeyboardInterrupt


@pytest.mark.parametrize("together", [True, False])
def test_an_interrupted_run_goes_on_by_any_way(shop: Shop, alone: list[bytes], tmp_path: Path, together: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        by_two(shop, runner=UntilTwo(1))
    assert len(shard_paths(shard_folder(shop.workspace["content"], "fake-1"))) == 2
    log = tmp_path / "log"
    report = by_two(shop, FakePlanner(log)) if together else run(shop.workspace, FakeEncoder(log=log))
    assert (len(log.read_text().split()), report.encoded) == (1, 4)
    assert files(shop.workspace) == alone


def test_an_encoder_that_is_another_one_is_refused(shop: Shop) -> None:
    def other(settings: EmbedSettings) -> EncoderPlan:
        plan = FakePlanner()(settings)
        encoder = FakeEncoder()
        encoder.info = encoder.info.__class__(**{**vars(encoder.info), "fingerprint": "another"})
        return EncoderPlan(plan.info, lambda: encoder)

    with pytest.raises(BackendError, match="is not the one that was described"):
        by_two(shop, other, ProcessRunner(1))


def test_texts_are_read_by_others_while_they_are_kept(tmp_path: Path) -> None:
    with PendingTexts(tmp_path, 3, shared=True) as texts:
        for row, text in ((2, "später\n"), (0, "früher")):
            texts.add(row, text, f"{row}.jpg")
        starts = dict(zip([0, 2], texts.starts[[0, 2]], strict=True))
        with Texts(texts.share().open("rb"), starts) as read:
            assert read.fetch([2, 0]) == [("später\n", "2.jpg"), ("früher", "0.jpg")]
    assert list(tmp_path.iterdir()) == []
