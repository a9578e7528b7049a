"""Every index backend, with an index of the test module's own items or of any others."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from molar_indexes.backends import BACKENDS, build_index, open_index
from molar_retrieval.index import Index, IndexItem, IndexSpec


@pytest.fixture(params=sorted(BACKENDS), scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend; every test runs on each."""
    return request.param


@pytest.fixture(scope="module")
def index(
    backend: str, items: list[IndexItem], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    """The module's ``items`` under the module's ``SPEC``."""
    folder = tmp_path_factory.mktemp(backend) / "index é #1"
    build_index(folder, backend, request.module.SPEC, items)
    opened = open_index(folder, backend, request.module.SPEC)
    yield opened
    opened.close()


@pytest.fixture
def build(backend: str, tmp_path: Path) -> Iterator[Callable[[IndexSpec, list[IndexItem]], Index]]:
    """Builds and opens an index of any items."""
    opened: list[Index] = []

    def make(spec: IndexSpec, items: list[IndexItem]) -> Index:
        folder = tmp_path / f"index{len(opened)}"
        build_index(folder, backend, spec, iter(items))
        opened.append(open_index(folder, backend, spec))
        return opened[-1]

    yield make
    for index in opened:
        index.close()
