import json
import shutil

from copies import copy_workspace


def items(folder):
    folder.mkdir(parents=True)
    (folder / "items.csv").write_text("item_id,title\n1,a red dress\n2,a blue mug\n")
    return folder


def test_the_shop_that_answers_from_above_is_named(molar, trained):
    deep = trained.workspace.parent / "deep"
    deep.mkdir(exist_ok=True)
    done = molar("query", "--user", trained.user, "--json", cwd=deep)
    assert json.loads(done.stdout)["items"]
    assert done.stderr == f"workspace: {trained.workspace}, of the shop {trained.shop}\n"
    assert molar("query", "--user", trained.user, "--quiet", cwd=deep).stderr == ""
    assert molar("query", "--user", trained.user, cwd=trained.workspace.parent).stderr == ""


def test_two_shops_in_a_folder_share_nothing(molar, trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / ".molar")
    shutil.copytree(trained.shop, tmp_path / "shop")
    other = items(tmp_path / "other")
    done = molar("embed", other, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "workspace: .molar-other, as another shop of this folder has .molar" in done.stderr
    several = molar("query", "--user", trained.user, cwd=tmp_path)
    assert several.returncode == 1
    assert "--workspace .molar or --workspace .molar-other" in several.stderr
    assert molar("query", "--user", trained.user, "--workspace", ".molar", cwd=tmp_path).returncode == 0


def test_a_failed_first_command_leaves_the_folder_free(molar, tmp_path):
    wrong, right = items(tmp_path / "wrong"), items(tmp_path / "right")
    assert molar("embed", wrong, "--model", "./none", cwd=tmp_path).returncode != 0
    done = molar("embed", right, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".molar-right").exists()
    moved = molar("workspace", "move", "ws", "--json", cwd=tmp_path)
    assert json.loads(moved.stdout) == {"workspace": str(tmp_path / "ws"), "catalogue": str(right)}
    again = molar("embed", right, "--workspace", "ws", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["up_to_date"]
