"""Every index backend, with an index of the test module's own items or of any others.

Two of them are folders. The third is a collection of a Qdrant server: of the fake one, by REST, and of the one that
``MOLAR_TEST_QDRANT_URL`` names, if it does; nothing is left behind there. The fake one has gaps, but none where these
tests ask: they need no graphs. ``test_server_only.py`` has the gaps.

Where ``MOLAR_TEST_READ_ONLY`` names a folder, a colon and the same folder mounted read-only, an index is built in the
first and opened in the second.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from served import SERVERS, shelf

from molar_indexes.backends import BACKENDS, build_index, open_index
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec

Open = Callable[[Path, IndexSpec, Iterable[IndexItem]], Index]
MOUNTED = os.environ.get("MOLAR_TEST_READ_ONLY")


@pytest.fixture(params=[*sorted(BACKENDS), *SERVERS], scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend; every test runs on each."""
    return request.param


@pytest.fixture(scope="module")
def opening(backend: str) -> Iterator[Open]:
    """Builds an index of a backend, in a folder where it needs one, and opens it."""

    def built(folder: Path, spec: IndexSpec, items: Iterable[IndexItem]) -> Index:
        seen = folder
        if MOUNTED:
            name = f"{uuid.uuid4().hex} é #1"
            folder, seen = (Path(place) / name for place in MOUNTED.split(":"))
        build_index(folder, backend, spec, items)
        return open_index(seen, backend, spec)

    if backend not in SERVERS:
        yield built
        return
    with shelf(backend) as opened:
        yield lambda _, spec, items: opened.index(spec, items)


@pytest.fixture(scope="module")
def index(
    opening: Open, items: list[IndexItem], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    """The module's ``items`` under the module's ``SPEC``."""
    opened = opening(tmp_path_factory.mktemp("index") / "index é #1", request.module.SPEC, items)
    yield opened
    opened.close()


@pytest.fixture
def build(opening: Open, tmp_path: Path) -> Iterator[Callable[[IndexSpec, list[IndexItem]], Index]]:
    """Builds and opens an index of any items."""
    opened: list[Index] = []

    def make(spec: IndexSpec, items: list[IndexItem]) -> Index:
        opened.append(opening(tmp_path / f"index{len(opened)}", spec, iter(items)))
        return opened[-1]

    yield make
    for index in opened:
        index.close()
