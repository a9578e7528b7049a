import json

import pytest
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
    other = items(tmp_path / "other")
    done = molar("embed", other, cwd=tmp_path)
    assert done.returncode == 1
    assert "--workspace DIR" in done.stderr
    assert molar("embed", other, "--workspace", ".molar-other", cwd=tmp_path).returncode == 0
    assert molar("query", "--user", trained.user, cwd=tmp_path).returncode == 0


def test_a_failed_first_command_leaves_the_folder_free(molar, tmp_path):
    wrong, right = items(tmp_path / "wrong"), items(tmp_path / "right")
    assert molar("embed", wrong, "--model", "./none", cwd=tmp_path).returncode != 0
    done = molar("embed", right, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    moved = molar("workspace", "move", "ws", "--json", cwd=tmp_path)
    assert json.loads(moved.stdout) == {"workspace": str(tmp_path / "ws"), "catalogue": str(right)}
    again = molar("embed", right, "--workspace", "ws", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["up_to_date"]


EVENT = '{"event": "view", "event_id": "e1", "user_id": "u1", "item_id": "1", "timestamp": "2025-01-01"}\n'


@pytest.fixture
def above(molar, tmp_path):
    """A shop with a workspace, and what is in it."""
    folder = tmp_path / "above"
    done = molar("embed", items(folder / "shop"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, lambda: sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())


def test_a_restored_folder_without_a_record_is_not_that_of_the_shop_above(molar, above):
    folder, contents = above
    (new := folder / "new").mkdir()
    before = contents()
    (new / ".molar" / "serving").mkdir(parents=True)
    (new / "events.jsonl").write_text(EVENT)
    for command in (["events", "append", "events.jsonl"], ["query", "--user", "u1"], ["keys", "list"]):
        done = molar(*command, "--json", cwd=new)
        assert done.returncode == 3, command
        told = json.loads(done.stdout)
        assert str(new / ".molar") in told["error"]
        assert "workspace.json" in told["error"]
        assert "molar embed CATALOG" in told["hint"]
    sick = molar("doctor", "--json", cwd=new)
    assert sick.returncode != 0
    assert "workspace.json" in sick.stdout
    (new / "events.jsonl").unlink()
    assert contents() == before
    items(new / "shop")
    (new / "events.jsonl").write_text(EVENT)
    assert molar("embed", "shop", cwd=new).returncode == 0
    done = molar("events", "append", "events.jsonl", cwd=new)
    assert "1 accepted" in done.stdout
    assert not (folder / ".molar" / "events").exists()


def test_a_command_that_writes_uses_no_workspace_above_unless_it_is_named(molar, above):
    folder, contents = above
    (deep := folder / "deep").mkdir()
    (deep / "events.jsonl").write_text(EVENT)
    before = contents()
    for command in (["events", "append", "events.jsonl"], ["align"], ["keys", "add", "page"], ["embed", "../shop"]):
        done = molar(*command, "--json", cwd=deep)
        assert done.returncode == 2, command
        told = json.loads(done.stdout)
        assert str(folder / ".molar") in told["error"]
        assert f"--workspace {folder / '.molar'}" in told["hint"]
    assert contents() == before
    assert molar("keys", "list", cwd=deep).returncode == 0
    done = molar("events", "append", "events.jsonl", "--workspace", "../.molar", cwd=deep)
    assert done.returncode == 0, done.stderr
    assert molar("events", "tail", cwd=deep, MOLAR_WORKSPACE="../.molar").returncode == 0


def test_every_command_is_said_to_read_or_to_write():
    import typer

    from molar_cli.app import app
    from molar_cli.session import OF_NO_WORKSPACE, READ, WRITE

    def paths(group, before=()):
        for name, one in group.commands.items():
            yield from paths(one, (*before, name)) if hasattr(one, "commands") else [" ".join((*before, name))]

    known = [*READ, *WRITE, *OF_NO_WORKSPACE]
    assert sorted(known) == sorted(paths(typer.main.get_command(app)))
