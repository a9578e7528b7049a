"""A workspace and its catalogue: bound for good by success, found again after moves, and never another shop's."""

import re
import shutil
from pathlib import Path

import pytest

import molar
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace, scratch_workspace
from molar_retrieval.workspace.discovery import bind, bound, file_beside, nearest_workspace, workspace_for


def catalogue(folder: Path, title: str = "a thing") -> Path:
    folder.mkdir(parents=True)
    (folder / "items.csv").write_text(f"item_id,title\n1,{title}\n")
    return folder


def made(root: Path, folder: Path) -> Workspace:
    """A workspace with a prepared catalogue."""
    with bound(root, folder):
        workspace = Workspace(root)
        prepare_catalogue(folder, workspace)
    return workspace


def leave(root: Path, folder: Path, error: type[BaseException], name: str | None = None) -> None:
    """A command that ends by an error, and has made a folder of the workspace before."""
    with bound(root, folder):
        assert Workspace.open(root).catalogue == folder
        if name is not None:
            (root / name).mkdir()
            (root / name / "current").write_text("x")
        raise error


def test_a_first_command_that_leaves_nothing_binds_nothing_and_one_that_made_something_does(tmp_path: Path) -> None:
    wrong, right = catalogue(tmp_path / "wrong"), catalogue(tmp_path / "right")
    root = tmp_path / ".molar"
    with pytest.raises(LookupError):
        leave(root, wrong, LookupError)
    assert not root.exists()
    with bound(root, wrong):
        pass
    assert not root.exists()
    with pytest.raises(KeyboardInterrupt):
        leave(root, right, KeyboardInterrupt, "content")
    assert Workspace.open(root).catalogue == right
    with pytest.raises(DataError, match="serves the catalogue"), bound(root, wrong):
        pass


def test_events_are_of_the_catalogue_for_which_they_were_taken(tmp_path: Path) -> None:
    one, two = catalogue(tmp_path / "one"), catalogue(tmp_path / "two")
    with pytest.raises(KeyboardInterrupt):
        leave(tmp_path / ".molar", one, KeyboardInterrupt, "events")
    with pytest.raises(DataError, match="serves"), bound(tmp_path / ".molar", two):
        pass


def test_a_catalogue_finds_its_workspace_and_takes_no_other(tmp_path: Path) -> None:
    one, two = (catalogue(tmp_path / name) for name in ("one", "two"))
    assert workspace_for(one, tmp_path) == tmp_path / ".molar"
    made(tmp_path / ".molar", one)
    assert workspace_for(one, tmp_path / "one") == tmp_path / ".molar"
    assert nearest_workspace(tmp_path / "one") == tmp_path / ".molar"
    assert workspace_for(two, tmp_path / "two") == tmp_path / "two" / ".molar"
    with pytest.raises(DataError, match=r"serves the catalogue .*one, not .*two") as other:
        made(workspace_for(two, tmp_path), two)
    assert "--workspace DIR" in other.value.hint
    second = tmp_path / ".molar-two"
    made(second, two)
    assert nearest_workspace(tmp_path) == tmp_path / ".molar"
    assert file_beside(second, "rules.toml") == tmp_path / "rules-two.toml"
    assert file_beside(tmp_path / ".molar", "rules.toml") == tmp_path / "rules.toml"
    (tmp_path / "molar.toml").write_text('[embed]\nmodel = "one/only"\n')
    (tmp_path / "molar-two.toml").write_text('[embed]\nmodel = "two/only"\n')
    assert molar.open(one).settings.embed.model == "one/only"
    assert molar.open(two, workspace=second).settings.embed.model == "two/only"


def test_workspace_and_catalogue_moved_together_know_each_other(tmp_path: Path) -> None:
    made(tmp_path / "then" / ".molar", catalogue(tmp_path / "then" / "shop"))
    (tmp_path / "then").rename(tmp_path / "now")
    workspace = Workspace.open(tmp_path / "now" / ".molar")
    assert workspace.catalogue == tmp_path / "now" / "shop"
    bind(workspace.root, tmp_path / "now" / "shop")
    (tmp_path / "now" / "shop").rename(tmp_path / "store")
    assert Workspace.open(workspace.root).catalogue == tmp_path / "now" / "shop", "it is written down anew"


def test_a_copy_of_both_is_a_shop_of_its_own(tmp_path: Path) -> None:
    made(tmp_path / "one" / ".molar", catalogue(tmp_path / "one" / "shop"))
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    assert Workspace.open(tmp_path / "two" / ".molar").catalogue == tmp_path / "two" / "shop"
    assert workspace_for(tmp_path / "two" / "shop", tmp_path / "two") == tmp_path / "two" / ".molar"


def test_what_is_tried_in_a_copy_of_both_is_tried_in_that_shop(tmp_path: Path) -> None:
    one = tmp_path / "one"
    made(one / ".molar", catalogue(one / "shop"))
    copied = Path(shutil.copytree(one, tmp_path / "two"))
    said = (copied / ".molar" / "workspace.json").read_bytes()
    with scratch_workspace(copied / ".molar", copied / "shop") as place:
        assert place.catalogue == copied / "shop"
        assert place["catalogue"].require()[1] == Workspace.open(one / ".molar")["catalogue"].require()[1]
    assert (copied / ".molar" / "workspace.json").read_bytes() == said


def test_what_is_tried_for_another_catalogue_names_the_workspace(tmp_path: Path) -> None:
    root = tmp_path / ".molar"
    made(root, catalogue(tmp_path / "one"))
    with (
        pytest.raises(DataError, match=f"the workspace {re.escape(str(root))} serves"),
        scratch_workspace(root, catalogue(tmp_path / "two", "another thing")),
    ):
        pass


def test_a_workspace_beside_another_shop_still_serves_its_own(tmp_path: Path) -> None:
    first = catalogue(tmp_path / "one" / "shop", "a thing of the first")
    catalogue(tmp_path / "two" / "shop", "of the second")
    made(tmp_path / "one" / ".molar", first)
    (tmp_path / "one" / ".molar").rename(tmp_path / "two" / ".molar")
    assert Workspace.open(tmp_path / "two" / ".molar").catalogue == first


def test_where_a_catalogue_has_moved_to_is_said(tmp_path: Path) -> None:
    root = tmp_path / ".molar"
    folder = catalogue(tmp_path / "shop")
    made(root, folder)
    folder.rename(tmp_path / "store")
    with pytest.raises(DataError, match="which is gone") as gone:
        bind(root, tmp_path / "store")
    assert f"molar workspace move --catalog {tmp_path / 'store'}" in gone.value.hint
    shop = molar.Shop(None, root).move(catalogue=tmp_path / "store")
    assert shop.folder() == tmp_path / "store"
    assert Workspace.open(root).catalogue == tmp_path / "store"
    bind(root, tmp_path / "store")


def test_a_workspace_moves_and_a_moved_one_is_whole(tmp_path: Path) -> None:
    made(tmp_path / ".molar", catalogue(tmp_path / "shop"))
    shop = molar.open(tmp_path / "shop")
    with pytest.raises(DataError, match="is there already"):
        shop.move(tmp_path / "shop")
    with pytest.raises(DataError, match="in the workspace itself"):
        shop.move(tmp_path / ".molar" / "inner")
    with pytest.raises(SettingsError, match="nothing is to be moved"):
        shop.move()
    moved = shop.move(tmp_path / "disk" / "ws")
    assert not (tmp_path / ".molar").exists()
    assert moved.workspace == tmp_path / "disk" / "ws"
    assert moved.opened()["catalogue"].manifest is not None
    assert moved.opened().catalogue == tmp_path / "shop"
    assert moved.opened().is_as_written
    with Workspace(moved.workspace).lock("content"), pytest.raises(DataError, match="another process"):
        moved.move(tmp_path / "later")


def test_a_new_workspace_is_for_its_user_alone_and_one_that_is_there_stays_as_it_is(tmp_path):
    (catalogue := tmp_path / "catalogue").mkdir()
    made = Workspace.for_catalogue(tmp_path / "new" / ".molar", catalogue)
    assert made.root.stat().st_mode & 0o777 == 0o700
    (there := tmp_path / "there").mkdir(mode=0o755)
    assert Workspace.for_catalogue(there, catalogue).root.stat().st_mode & 0o777 == 0o755


def test_the_same_catalogue_by_a_link_is_no_other_one(tmp_path: Path) -> None:
    shop = catalogue(tmp_path / "data" / "shop")
    (tmp_path / "deep").mkdir()
    made(tmp_path / "deep" / ".molar", shop)
    (tmp_path / "other" / "deep").mkdir(parents=True)
    shutil.copytree(tmp_path / "deep" / ".molar", tmp_path / "other" / "deep" / ".molar")
    (tmp_path / "other" / "data").symlink_to(tmp_path / "data")  # by which its path beside the copy leads to the shop
    with bound(tmp_path / "other" / "deep" / ".molar", shop):
        pass
    assert Workspace.open(tmp_path / "other" / "deep" / ".molar").catalogue == shop
