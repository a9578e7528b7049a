from pathlib import Path

import pytest
from embedding_fakes import FakeEncoder, Shop, planned, run

from molar_retrieval.embedding import EmbedForecast, dry_run
from molar_retrieval.embedding import estimate as subject
from molar_retrieval.encoders.base import EncoderPlan
from molar_retrieval.workspace.settings import EmbedSettings


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path, n=60)
    shop.prepare()
    return shop


def forecast(shop: Shop, encoder: FakeEncoder, batch_size: int = 4) -> EmbedForecast:
    settings = EmbedSettings(batch_size=batch_size)
    return dry_run(shop.workspace, settings, planner=planned(encoder))


def snapshot(shop: Shop) -> set[Path]:
    return set(shop.workspace.root.rglob("*"))


@pytest.mark.alone
def test_first_run(shop: Shop) -> None:
    before = snapshot(shop)
    found = forecast(shop, FakeEncoder(seconds=0.02, dim=64))
    assert snapshot(shop) == before
    assert (found.items, found.to_encode, found.reused, found.sampled, found.dim) == (60, 60, 0, 16, 64)
    assert 15 * 0.02 * 0.9 < found.seconds < 3  # 15 batches of 4 at 20 ms each
    run(shop.workspace, FakeEncoder(dim=64))
    written = sum(path.stat().st_size for path in shop.version().iterdir())
    assert 60 * 64 * 4 <= found.disk_bytes <= written + 10_000
    assert any("16 items" in note for note in found.notes)
    assert any("memory" in note for note in found.notes)
    assert len(found.lines()) == 4
    assert found.to_dict()["to_encode"] == 60


@pytest.mark.alone
@pytest.mark.parametrize(("quick", "sampled"), [(10.0, 40), (0.0, 16)])
def test_of_a_quick_encoder_whole_batches_are_encoded(tmp_path: Path, monkeypatch, quick: float, sampled: int) -> None:
    monkeypatch.setattr(subject, "_QUICK", quick)
    shop = Shop(tmp_path, n=180)
    shop.prepare()
    found = forecast(shop, FakeEncoder(seconds=0.02, dim=8), batch_size=10)
    assert found.sampled == sampled
    assert 0.02 * (18 if quick else 22.5) * 0.95 < found.seconds < 3  # a batch of 8 takes as long as one of 10


def test_only_what_changed(shop: Shop) -> None:
    run(shop.workspace, FakeEncoder())
    shop.items[0]["title"] = "changed"
    shop.paint("images/1.png", 999)
    shop.prepare()
    found = forecast(shop, FakeEncoder())
    assert (found.to_encode, found.reused, found.sampled) == (2, 58, 2)


def test_nothing_changed_loads_nothing(shop: Shop) -> None:
    run(shop.workspace, FakeEncoder())
    encoder = FakeEncoder()
    found = dry_run(shop.workspace, EmbedSettings(), planner=lambda _: EncoderPlan(encoder.info, pytest.fail))
    assert (found.to_encode, found.seconds, found.dim) == (0, 0.0, 16)


def test_interrupted_run(shop: Shop) -> None:
    calls = iter(range(1000))

    def stop(items: object) -> None:
        if next(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shop.workspace, FakeEncoder(before=stop))
    before = snapshot(shop)
    assert forecast(shop, FakeEncoder()).to_encode == 40
    assert forecast(shop, FakeEncoder(), batch_size=3).to_encode == 40
    assert snapshot(shop) == before
