"""Whatever is edited, stopped and run again in whatever order: the vectors are those of a fresh run."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from embedding_fakes import FakeEncoder, Shop, info, run
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.vector_cache import ShardWriter
from molar_retrieval.workspace.artefacts import Workspace


class Death(BaseException):
    """Nothing that the code under test may handle."""


def edit(shop: Shop, kind: str, row: int) -> None:
    item = shop.items[row % len(shop.items)]
    shop.clock += 1
    if kind == "title":
        item["title"] = f"edited {shop.clock}"
    elif kind == "pixels":
        name = item["image"] or "images/extra.png"
        item["image"] = name
        shop.paint(name, shop.clock % 60_000)
    elif kind == "drop-photo":
        item["image"] = None
    elif kind == "break-photo" and item["image"] is not None:
        shop.truncate(item["image"])
    elif kind == "new":
        shop.add(f"new {shop.clock}", with_image=row % 2 == 0)
    elif kind == "remove" and len(shop.items) > 1:
        shop.items.remove(item)
    elif kind == "reverse":
        shop.items.reverse()
    elif kind == "price":
        item["price"] += 1


def dying_encoder(after: int) -> Callable[[Sequence[Any]], None]:
    calls = iter(range(10_000))

    def before(items: Sequence[Any]) -> None:
        if next(calls) == after:
            raise Death

    return before


class DyingWrites:
    """Lets the ``after``-th write of a batch die: half of it is written."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.real = ShardWriter.append

    def __enter__(self) -> None:
        def append(shard: ShardWriter, *arguments: Any) -> None:
            before = shard.path.stat().st_size
            self.real(shard, *arguments)
            self.left -= 1
            if self.left < 0:
                os.truncate(shard.path, (before + shard.path.stat().st_size) // 2)
                raise Death

        ShardWriter.append = append  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        ShardWriter.append = self.real  # type: ignore[method-assign]


EDITS = ["title", "pixels", "drop-photo", "break-photo", "new", "remove", "reverse", "price"]
STEPS = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(EDITS), st.integers(0, 20)),
    st.tuples(st.just("die in encoder"), st.integers(0, 5), st.integers(1, 5)),
    st.tuples(st.just("die in writer"), st.integers(0, 12), st.integers(1, 5)),
    st.tuples(st.just("run"), st.integers(1, 2), st.integers(1, 5)),
)


@given(st.lists(STEPS, max_size=8))
@settings(deadline=None, max_examples=25)
def test_any_history_ends_like_a_fresh_run(steps: list[tuple[str, Any, int]]) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        shop = Shop(root, n=9)
        for step, what, number in steps:
            if step == "edit":
                edit(shop, what, number)
                continue
            shop.prepare()
            with suppress(Death):
                if step == "die in encoder":
                    run(shop.workspace, FakeEncoder(before=dying_encoder(what)), batch_size=number)
                elif step == "die in writer":
                    with DyingWrites(what):
                        run(shop.workspace, FakeEncoder(), batch_size=number)
                else:
                    run(shop.workspace, FakeEncoder(info(f"fake-{what}")), batch_size=number)
        report = shop.embed(FakeEncoder(), batch_size=3)
        other = Shop.__new__(Shop)
        other.__dict__.update(shop.__dict__, workspace=Workspace.for_catalogue(root / "fresh", shop.folder))
        fresh = other.embed(FakeEncoder(), batch_size=3)
        got, expected = ContentVectors.open(report.folder), ContentVectors.open(fresh.folder)
        assert got.ids == expected.ids
        np.testing.assert_array_equal(got.vectors, expected.vectors)
        assert report.fingerprint == fresh.fingerprint
        assert report.rejected_images == fresh.rejected_images
        assert shop.workspace["content"].partials() == []
    finally:
        shutil.rmtree(root)
