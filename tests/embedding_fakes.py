"""What the tests of embedding share: a catalogue made on the spot, and an encoder whose vectors are hashes."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.embedding import EmbedReport, embed
from molar_retrieval.encoders.base import EncoderInfo, EncoderInput, EncoderPlan, Planner, VectorBlock
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings

DIM = 16
LONG_AGO = 1_600_000_000


def info(fingerprint: str = "fake-1", modalities: tuple[str, ...] = ("text", "image")) -> EncoderInfo:
    return EncoderInfo("fake", "fake", "1", "none", modalities, fingerprint)


@dataclass
class FakeEncoder:
    """Hashes text and pixels; independent of the batch by construction."""

    info: EncoderInfo = field(default_factory=info)
    dim: int = DIM
    log: Path | None = None
    seconds: float = 0.0
    before: Callable[[Sequence[EncoderInput]], None] = lambda items: None
    calls: list[list[EncoderInput]] = field(default_factory=list)

    @property
    def blocks(self) -> tuple[VectorBlock, ...]:
        return (VectorBlock("content_text", 0, self.dim // 2), VectorBlock("content_image", self.dim // 2, self.dim))

    def encode(self, items: Sequence[EncoderInput]) -> np.ndarray:
        self.before(items)
        self.calls.append(list(items))
        time.sleep(self.seconds)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(hashlib.sha256("\0".join(str(item.text) for item in items).encode()).hexdigest() + "\n")
        return np.stack([vector(item, self.dim) for item in items])

    @property
    def encoded(self) -> int:
        return sum(map(len, self.calls))


def vector(item: EncoderInput, dim: int = DIM) -> np.ndarray:
    half = dim // 2
    parts = [np.zeros(half, np.float32), np.zeros(half, np.float32)]
    if item.text:
        parts[0] = _hashed(item.text.encode(), half)
    if item.image is not None:
        parts[1] = _hashed(item.image.tobytes(), half)
    whole = np.concatenate(parts)
    return whole / max(float(np.linalg.norm(whole)), 1e-12)


def _hashed(data: bytes, n: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


class Shop:
    """A catalogue folder and a workspace for it; every change makes files with new times."""

    def __init__(self, root: Path, n: int = 12) -> None:
        self.folder = root / "shop"
        (self.folder / "images").mkdir(parents=True)
        self.items: list[dict[str, Any]] = []
        self.clock = LONG_AGO
        for i in range(n):
            self.add(f"item {i}", with_image=i % 3 != 2, words=1 + 7 * (i % 5))
        self.workspace = Workspace.for_catalogue(root / "ws", self.folder)

    def add(self, item_id: str, *, with_image: bool, words: int = 3) -> None:
        name = f"images/{len(self.items)}.png" if with_image else None
        title = " ".join([f"title of {item_id}", *["word"] * words])
        self.items.append({"item_id": item_id, "title": title, "image": name, "price": 1.0})
        if name is not None:
            self.paint(name, len(self.items))

    def paint(self, name: str, colour: int, size: tuple[int, int] = (4, 4)) -> None:
        self.clock += 1
        path = self.folder / name
        Image.new("RGB", size, (colour % 256, colour // 256, 7)).save(path)
        os.utime(path, (self.clock, self.clock))

    def truncate(self, name: str) -> None:
        path = self.folder / name
        Image.effect_noise((64, 64), 50).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-600])

    def prepare(self) -> None:
        self.clock += 1
        path = self.folder / "items.parquet"
        pq.write_table(pa.Table.from_pylist(self.items), path)
        os.utime(path, (self.clock, self.clock))
        prepare_catalogue(self.folder, self.workspace)

    def embed(self, encoder: FakeEncoder, *, batch_size: int = 4, **options: Any) -> EmbedReport:
        self.prepare()
        return run(self.workspace, encoder, batch_size=batch_size, **options)

    def version(self) -> Path:
        folder = self.workspace["content"].current
        assert folder is not None
        return folder

    def vectors_file(self) -> bytes:
        return (self.version() / "vectors.safetensors").read_bytes()


def planned(encoder: FakeEncoder) -> Planner:
    return lambda _: EncoderPlan(encoder.info, lambda: encoder)


@dataclass(frozen=True)
class FakePlanner:
    """Plans that travel to other processes; an item with the word ``deadly`` in its title kills the first of them."""

    log: Path | None = None
    died: Path | None = None

    def __call__(self, settings: EmbedSettings) -> EncoderPlan:
        return EncoderPlan(info(), lambda: FakeEncoder(log=self.log, before=self._before))

    def _before(self, items: Sequence[EncoderInput]) -> None:
        deadly = any("deadly" in (item.text or "") for item in items)
        if deadly and self.died is not None and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def run(workspace: Workspace, encoder: FakeEncoder, *, batch_size: int = 4, **options: Any) -> EmbedReport:
    settings = EmbedSettings(batch_size=batch_size)
    return embed(workspace, settings, planner=planned(encoder), **options)
