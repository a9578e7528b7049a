"""Generations and servers, published data and the made-up shop, from Python."""

import subprocess
import sys
import textwrap

import pytest
from copies import copy_workspace
from qdrant_fake import fake_qdrant

import molar
from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, SettingsError


@pytest.fixture
def shop(trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / ".molar")
    return molar.Shop(trained.shop, tmp_path / ".molar")


def test_generations_are_listed_verified_and_sized(shop, trained):
    (live,) = shop.generations()
    assert live.live
    found = shop.verify()
    assert (found.generation, found.problems, found.url) == (live.name, (), None)
    sizes = shop.size([2000]).to_dict()
    assert sizes["bytes"][2000]["scalar"]["payload"] == 2000 * sizes["shape"]["payload"]
    with pytest.raises(MissingArtefactError):
        shop.rollback()
    with pytest.raises(SettingsError, match="sizes of"):
        shop.size([0])


def test_a_server_is_pushed_to_listed_rolled_back_and_pruned(shop, trained, monkeypatch):
    monkeypatch.setenv("MOLAR_INDEX_TIMEOUT", "30")  # cores may be busy
    with fake_qdrant() as server:
        report = shop.push(to=server.url)
        assert report.items == trained.items
        (there,) = shop.collections(index=server.url)
        assert (there.live, there.metadata.generation) == (True, report.generation)
        assert shop.verify(index=server.url).url == server.url
        live = shop.rollback(report.generation, index="local")
        assert (live.generation, live.url) == (report.generation, None)
        with pytest.raises(MissingArtefactError, match="no whole generation before"):
            shop.rollback(index=server.url)
        assert shop.prune(index=server.url) == []


def test_without_a_server_nothing_is_pushed_or_pruned(shop):
    assert shop.collections() == []
    for ask in (shop.push, lambda: shop.prune(1)):
        with pytest.raises(SettingsError, match="no server is named"):
            ask()
    assert shop.prune() == []


def test_the_made_up_shop_does_not_take_the_place_of_something_else(tmp_path):
    (tmp_path / "mine").write_text("words")
    with pytest.raises(RequestError, match="holds no demo"):
        molar.demo(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        molar.import_dataset("movielens", tmp_path / "none", tmp_path / "out")


def test_the_health_of_an_installation(tmp_path):
    health = molar.Shop(None, tmp_path / ".molar").doctor()
    assert [section.name for section in health.sections][:2] == ["software", "machine"]


def test_a_server_starts_without_what_it_may_never_need():
    program = """
        import sys
        import molar_serving.server
        slow = {"torch", "pandas", "scipy.stats", "scipy.optimize", "transformers"} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
