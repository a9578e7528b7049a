"""Where a server does not answer, the workspace answers from the generation that is live there, and says which."""

from pathlib import Path

import pytest
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from test_indexes_generations import release
from test_server_push import place, send

import molar
from molar_indexes.generations import Generation
from molar_indexes.server import push
from molar_indexes.server.opening import last_live, open_served
from molar_retrieval.workspace.artefacts import Manifest, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(push, "POLL", 0.01)
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def published(workspace: Workspace, fake: FakeQdrant, mark: int, keep: int = 2) -> str:
    """A generation of another alignment, here and there; its name."""
    alignment = workspace["alignment"]
    alignment.publish(alignment.partial(f"a{mark}"), Manifest("alignment", f"a{mark}", {}, {}, {}, {}))
    release(workspace, mark, keep=keep).close()
    return send(workspace, fake).generation


def answering(workspace: Workspace, fake: FakeQdrant, **more: object) -> tuple[Generation, str]:
    """What answers while the server does not, and the note."""
    fake.faults = [Fault("", times=99, status=500)]
    with open_served(workspace, place(fake, fallback="local", **more)) as generation:
        (note,) = generation.notes
    fake.faults.clear()
    return generation, note.partition("the workspace's own generation answers instead: ")[2]


def test_after_a_rollback_there_it_is_the_one_to_which_it_was_rolled_back(workspace: Workspace) -> None:
    with fake_qdrant() as fake:
        first, second = (published(workspace, fake, mark) for mark in (1, 2))
        found, said = answering(workspace, fake)
        assert (found.name, said) == (second, f"{second}, which is live on both")
        shop = molar.Shop(None, workspace.root)
        assert shop.rollback(index=fake.url).generation == first
        found, said = answering(workspace, fake)
        assert (found.name, said) == (first, f"{first}, which is live there, while here it is {second}")
        third = published(workspace, fake, 3)
        assert answering(workspace, fake)[0].name == third
        assert shop.rollback(index=fake.url).generation == second
        fourth = release(workspace, 4, keep=0)
        fourth.close()
        found, said = answering(workspace, fake)
        assert found.name == fourth.name
        assert said == f"its live one, {fourth.name}, as it no longer has {second}, which is live there"


def test_a_generation_is_whole_there_though_it_was_rolled_back_to(workspace: Workspace) -> None:
    """It was made from an alignment that the workspace no longer has, which is no fault of it."""
    with fake_qdrant() as fake:
        first, second = (published(workspace, fake, mark) for mark in (1, 2))
        shop = molar.Shop(None, workspace.root)
        assert shop.verify(deep=True, index=fake.url).warnings == ()
        shop.rollback(index=fake.url)
        found = shop.verify(deep=True, index=fake.url)
        assert (found.generation, found.problems) == (first, ())
        assert found.warnings == (f"live there is {first}, and here {second}, of which the artefacts are",)
        assert shop.verify(second, deep=True, index=fake.url).warnings == ()


def test_what_was_never_pushed_from_here_is_not_known(workspace: Workspace) -> None:
    with fake_qdrant() as fake, fake_qdrant() as another:
        name = published(workspace, fake, 1)
        unknown = f"its live one, {name}, as it does not know what is live there"
        assert answering(workspace, fake, collection="other")[1] == unknown
        assert answering(workspace, another)[1] == unknown
        with_more = place(fake).url + "," + another.url  # one address more of the same cluster
        assert last_live(workspace, place(fake).__class__(with_more)).generation == name
