import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_fakes import FakeEncoder, Shop, run

from molar_retrieval.embedding import ContentVectors, content_vectors, pipeline, vector_cache
from molar_retrieval.embedding import run as runs
from molar_retrieval.embedding.vector_cache import ShardWriter, read_shard, shard_paths
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.errors import BackendError, StaleArtefactError
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path, n=24)
    shop.prepare()
    return shop


@pytest.fixture
def undisturbed(shop: Shop, tmp_path: Path) -> bytes:
    other = Shop(tmp_path / "other", n=24)
    other.embed(FakeEncoder())
    return other.vectors_file()


@pytest.fixture(autouse=True)
def threads_end() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("molar")] == []


class Recorder:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.notes: list[str] = []

    def start(self, task: str, total: int | None) -> None:
        self.total, self.done = total, 0

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, message: str) -> None:
        self.notes.append(message)

    def finish(self) -> None:
        assert self.total is None or self.done == self.total


def at_call(number: int, error: BaseException) -> Any:
    calls = iter(range(1000))

    def before(items: Sequence[EncoderInput]) -> None:
        if next(calls) == number:
            raise error

    return before


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_run_goes_on_where_it_was_stopped(shop: Shop, undisturbed: bytes, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(shop.workspace, FakeEncoder(before=at_call(3, error)))
    assert shop.workspace["content"].current is None
    encoder, progress = FakeEncoder(), Recorder()
    report = run(shop.workspace, encoder, progress=progress)
    assert (report.encoded, report.reused, encoder.encoded) == (12, 12, 12)
    assert progress.total == 12
    assert "12 of 24 items are left" in progress.notes[0]
    assert shop.vectors_file() == undisturbed
    assert shop.workspace["content"].partials() == []


def test_failing_reader_ends_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes) -> None:
    real = pipeline.load_photo

    def broken(folder: Path, path: str) -> pipeline.Photo:
        if path == "images/10.png":
            raise RuntimeError("the reader broke")
        return real(folder, path)

    monkeypatch.setattr(pipeline, "load_photo", broken)
    with pytest.raises(RuntimeError, match="reader broke"):
        run(shop.workspace, FakeEncoder())
    monkeypatch.setattr(pipeline, "load_photo", real)
    run(shop.workspace, FakeEncoder())
    assert shop.vectors_file() == undisturbed


def test_failing_writer_ends_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes) -> None:
    real, calls = ShardWriter.append, iter(range(1000))

    def full(self: ShardWriter, *arguments: Any) -> None:
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        real(self, *arguments)

    monkeypatch.setattr(ShardWriter, "append", full)
    with pytest.raises(OSError, match="No space"):
        run(shop.workspace, FakeEncoder())
    monkeypatch.setattr(ShardWriter, "append", real)
    run(shop.workspace, FakeEncoder())
    assert shop.vectors_file() == undisturbed


def test_failing_flush_is_not_lost(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ShardWriter) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(vector_cache, "_SYNC_SECONDS", 0.0)
    monkeypatch.setattr(ShardWriter, "sync", broken)
    with pytest.raises(OSError, match="Input/output"):
        run(shop.workspace, FakeEncoder(seconds=0.01))


def stopped(shop: Shop, call: int = 5) -> Path:
    """The shard that a run left which was stopped at its so many-th batch."""
    with pytest.raises(RuntimeError):
        run(shop.workspace, FakeEncoder(before=at_call(call, RuntimeError())))
    (partial,) = shop.workspace["content"].partials()
    (path,) = shard_paths(partial)
    assert len(list(read_shard(path)[1])) == call
    return path


def test_batch_that_was_written_in_part_is_made_again(shop: Shop, undisturbed: bytes) -> None:
    """Killed in the middle of a batch's write, the batch counts as not done, those before it as done."""
    path = stopped(shop, 4)
    path.write_bytes(path.read_bytes()[:-200])
    assert run(shop.workspace, FakeEncoder()).encoded == 12
    assert shop.vectors_file() == undisturbed


def test_batch_that_does_not_match_its_checksum_is_made_again(shop: Shop, undisturbed: bytes) -> None:
    path = stopped(shop)
    data = bytearray(path.read_bytes())
    vector = next(read_shard(path)[1]).vectors[0].tobytes()
    data[data.index(vector)] ^= 1
    path.write_bytes(data)
    assert run(shop.workspace, FakeEncoder()).encoded == 8
    assert shop.vectors_file() == undisturbed


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "rubbish"])
def test_damaged_unfinished_work(shop: Shop, undisturbed: bytes, damage: str) -> None:
    path = stopped(shop)
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "rubbish": b"rubbish" * 50}[damage])
    run(shop.workspace, FakeEncoder())
    assert shop.vectors_file() == undisturbed


def test_vectors_that_vanish_while_they_are_made(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes
) -> None:
    """A disk that does not give back what was written is named; nothing is published."""
    real = runs.encode_batches

    def wiped(texts: Any, folder: Path, encoder: Any, shard: ShardWriter, *arguments: Any) -> None:
        real(texts, folder, encoder, shard, *arguments)
        shard.path.write_bytes(shard.path.read_bytes()[:-3000])

    monkeypatch.setattr(runs, "encode_batches", wiped)
    with pytest.raises(StaleArtefactError, match="damaged since they were written"):
        run(shop.workspace, FakeEncoder())
    assert shop.workspace["content"].current is None
    monkeypatch.undo()
    run(shop.workspace, FakeEncoder())
    assert shop.vectors_file() == undisturbed


def test_changed_catalogue_after_a_stop_keeps_what_is_the_same(shop: Shop) -> None:
    with pytest.raises(RuntimeError):
        run(shop.workspace, FakeEncoder(before=at_call(3, RuntimeError())))
    shop.items[0]["title"] = "now another"
    shop.items.reverse()
    encoder = FakeEncoder()
    report = shop.embed(encoder)
    assert report.reused >= 11
    assert report.encoded + report.reused == 24
    shop.paint("images/1.png", 500)
    shop.embed(FakeEncoder())
    incremental = shop.vectors_file()
    fresh = Shop(shop.folder.parent / "again", n=24)
    fresh.items = shop.items
    fresh.paint("images/1.png", 500)
    fresh.embed(FakeEncoder())
    assert incremental == fresh.vectors_file()


def test_other_batch_size_after_a_stop(shop: Shop) -> None:
    with pytest.raises(RuntimeError):
        run(shop.workspace, FakeEncoder(before=at_call(3, RuntimeError())))
    report = run(shop.workspace, FakeEncoder(), batch_size=5)
    assert (report.encoded, report.reused) == (12, 12)


def test_batches_are_halved_until_they_fit(shop: Shop, undisturbed: bytes) -> None:
    def small(items: Sequence[EncoderInput]) -> None:
        if len(items) > 2:
            raise MemoryError

    encoder, progress = FakeEncoder(before=small), Recorder()
    report = run(shop.workspace, encoder, batch_size=16, progress=progress)
    assert report.failed == 0
    assert max(map(len, encoder.calls)) == 2
    assert [note.split(":")[1] for note in progress.notes[:3]] == [
        " going on with 8",
        " going on with 4",
        " going on with 2",
    ]
    assert shop.vectors_file() == undisturbed


def test_size_recovers_after_one_heavy_item(shop: Shop) -> None:
    heavy = iter([True])

    def once(items: Sequence[EncoderInput]) -> None:
        if next(heavy, False):
            raise MemoryError

    encoder = FakeEncoder(before=once)
    run(shop.workspace, encoder, batch_size=2)
    assert [len(call) for call in encoder.calls] == [1] * 8 + [2] * 8


def test_item_that_never_fits_is_put_aside_and_tried_again(shop: Shop, undisturbed: bytes) -> None:
    def refuses(items: Sequence[EncoderInput]) -> None:
        if any("item 7 " in str(item.text) for item in items):
            raise MemoryError

    report = run(shop.workspace, FakeEncoder(before=refuses))
    assert (report.failed, report.rejected_images) == (1, 0)
    assert any("the next run tries again" in note for note in report.notes)
    (row,) = pq.read_table(report.folder / "rejects.parquet").to_pylist()
    assert (row["item_id"], row["row"]) == ("item 7", 8)
    assert "memory" in row["reason"]
    assert not ContentVectors.open(report.folder).vectors[7].any()
    again = run(shop.workspace, FakeEncoder(before=refuses))
    assert (again.encoded, again.failed, again.folder) == (1, 1, report.folder)
    assert again.up_to_date
    assert run(shop.workspace, FakeEncoder()).encoded == 1
    assert shop.vectors_file() == undisturbed


def test_vector_with_nan_is_put_aside(shop: Shop) -> None:
    class Overflowing(FakeEncoder):
        def encode(self, items: Sequence[EncoderInput]) -> np.ndarray:
            vectors = super().encode(items)
            vectors[["item 3 " in str(item.text) for item in items], 2] = np.nan
            return vectors

    report = run(shop.workspace, Overflowing())
    assert report.failed == 1
    assert not ContentVectors.open(report.folder).vectors[3].any()
    assert "NaN" in pq.read_table(report.folder / "rejects.parquet")["reason"][0].as_py()


def test_wrong_shape_is_the_encoders_fault(shop: Shop) -> None:
    class Wrong(FakeEncoder):
        def encode(self, items: Sequence[EncoderInput]) -> np.ndarray:
            return super().encode(items)[:, :-1]

    with pytest.raises(BackendError, match=r"\(4, 15\), not \(4, 16\)"):
        run(shop.workspace, Wrong())


@pytest.mark.alone
def test_reading_overlaps_with_encoding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.open_image

    def slow(folder: Path, path: str) -> Any:
        sleep(0.01)
        return real(folder, path)

    monkeypatch.setattr(pipeline, "open_image", slow)
    started = perf_counter()
    report = run(shop.workspace, FakeEncoder(seconds=0.06))
    assert report.seconds["read"] >= 0.15  # 16 photos
    assert report.seconds["encode"] >= 0.36  # 6 batches
    assert report.seconds["wait"] < 0.6 * report.seconds["read"]  # the first batch, and little else
    assert perf_counter() - started < 5


def test_large_photos_are_not_read_far_ahead(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    real = pipeline.Texts.fetch

    def counting(self: pipeline.Texts, rows: Any) -> Any:
        begun.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(pipeline, "_AHEAD_BYTES", 1)
    monkeypatch.setattr(pipeline.Texts, "fetch", counting)
    seen: list[int] = []
    run(shop.workspace, FakeEncoder(before=lambda _: seen.append(len(begun))))
    assert seen == [2, 3, 4, 5, 6, 6]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (content_vectors, "_write_tables"),
        (vector_cache.VectorCache, "assemble"),
        (Path, "rename"),
        (Manifest, "write"),
        (ArtefactStore, "publish"),
        (ArtefactStore, "switch"),
        (ArtefactStore, "prune"),
    ],
    ids=str,
)
@pytest.mark.parametrize("earlier", [False, True])
def test_stopped_while_publishing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes, owner: Any, name: str, earlier: bool
) -> None:
    if earlier:
        shop.items[5]["title"], title = "another for now", shop.items[5]["title"]
        shop.embed(FakeEncoder())
        shop.items[5]["title"] = title
        shop.prepare()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(KeyboardInterrupt):
            run(shop.workspace, FakeEncoder())
    encoder = FakeEncoder()
    report = run(shop.workspace, encoder)
    assert encoder.encoded == 0
    assert report.up_to_date == (name == "prune")
    assert shop.vectors_file() == undisturbed
    shop.items[5]["title"] = "and another"
    assert shop.embed(FakeEncoder()).encoded == 1
    assert len(shop.workspace["content"].versions()) == 1
    assert shop.workspace["content"].partials() == []
