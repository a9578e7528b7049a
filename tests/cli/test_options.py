"""Options: those that every command has, and those that a call cannot honour."""

import json

import pytest
import typer
from copies import copy_workspace
from typer.testing import CliRunner

import molar
from molar_cli.app import _run, app
from molar_retrieval.errors import SettingsError

EVERYWHERE = {"--workspace", "--settings", "--json", "--quiet", "--debug"}
ASK_A_SERVER = {"query", "recommend", "evaluate", "align", "update", "doctor"}
ASK_A_SERVER |= {"index list", "index verify", "index rollback", "index push", "index prune"}
"""Whose answer depends on a Qdrant server, which one run may name. Others follow the settings alone: what they change
must not be done on one server and asked of another."""
MAY_FALL_BACK = {"query", "recommend"}


def commands(command, path=()):
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), {name for parameter in command.params for name in parameter.opts}
    for name, one in (inner or {}).items():
        yield from commands(one, (*path, name))


def test_every_command_has_the_same_options_beside_its_own():
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 40
    lacking = {name: EVERYWHERE - options for name, options in found.items() if EVERYWHERE - options}
    assert lacking == {name: {"--workspace", "--settings"} for name in ("demo", "import", "init")}


def test_a_server_can_be_named_wherever_one_is_asked():
    found = dict(commands(typer.main.get_command(app)))
    assert {name for name, options in found.items() if "--index" in options} == ASK_A_SERVER
    assert {name for name, options in found.items() if "--index-fallback" in options} == MAY_FALL_BACK


def test_settings_of_another_file_hold_for_the_whole_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.toml").write_text("[index]\nusers = 'server'\n")
    monkeypatch.setenv("MOLAR_INDEX_URL", "http://127.0.0.1:1")
    done = CliRunner().invoke(app, ["doctor", "--settings", "other.toml", "--json"])
    said = json.loads(done.stdout)["sections"]
    assert said["places"]["settings"]["value"] == {"file": "other.toml", "given": ["index"]}
    assert said["server"]["address"]["state"] == "broken"
    done = CliRunner().invoke(app, ["doctor", "--settings", "other.toml", "--index", "local", "--json"])
    assert "server" not in json.loads(done.stdout)["sections"]
    monkeypatch.delenv("MOLAR_INDEX_URL")
    said = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["sections"]
    assert "server" not in said
    assert said["places"]["settings"]["value"] == {"file": None, "given": []}
    done = CliRunner().invoke(app, ["doctor", "--settings", "none.toml", "--quiet"])
    assert "there is no settings file none.toml" in done.stdout


WITH_JSON = {name: options for name, options in commands(typer.main.get_command(app)) if "--json" in options}
ALONE = {"query": ["--user", "u1"], "embed": ["catalog"], "check": ["catalog"], "finetune": ["catalog"]}
ALONE |= {"import": ["movielens", "nowhere", "--to", "there"], "init": ["none.csv"]}
ALONE |= {"events append": ["events.csv"], "events export": ["events.csv"]}
ALONE |= {"experiment start": ["one"], "experiment stop": ["one"], "experiment export": ["one", "tables"]}
ALONE |= {"experiment assign": ["one", "flags.csv"], "experiment advance": ["one"], "experiment report": ["one"]}
ALONE |= {"demo": ["--serve"]}
ALONE |= {"privacy share": ["sums.safetensors"]}
ALONE |= {"privacy forget": ["u1"], "privacy object": ["u1"], "privacy pseudonym": ["u1"]}
ALONE |= {"privacy scan": ["u1"], "privacy export": ["u1"], "keys add": ["shop"], "keys revoke": ["shop"]}


@pytest.mark.parametrize("name", WITH_JSON)
def test_a_failure_of_every_command_is_a_document(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*name.split(), *ALONE.get(name, []), "--json"])
    if name == "doctor":  # it tells of what is missing, and does not fail of it
        assert "error" not in json.loads(done.stdout)
        return
    assert done.exit_code != 0
    failed = json.loads(done.stdout)
    assert set(failed) == {"error", "hint", "code"}
    assert failed["code"] == done.exit_code
    assert failed["error"] in done.stderr
    assert failed["hint"] in done.stderr


@pytest.mark.parametrize("name", WITH_JSON)
def test_a_command_line_that_is_not_understood_is_a_document_as_well(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["molar", *name.split(), "--no-such-option", "--json"])
    with pytest.raises(SystemExit) as end:
        _run()
    assert end.value.code == 2
    told = capsys.readouterr()
    failed = json.loads(told.out)
    assert "--no-such-option" in failed["error"]
    assert failed["hint"].endswith(f"{name} --help")
    assert failed["code"] == 2
    assert "--no-such-option" in told.err


def test_without_json_standard_output_stays_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["query", "--user", "u1"])
    assert done.exit_code != 0
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query", "--user", "u1", "--rules", "r.toml", "--no-rules"], "--no-rules leaves them aside"),
        (["recommend", "--rules", "r.toml", "--no-rules"], "--no-rules leaves them aside"),
        (["evaluate", "--clip", "5"], "--clip bounds the weights of --impressions"),
        (["evaluate", "--impressions", "log.csv", "--seeds", "2", "--out", "run"], "without --seeds, --out"),
        (["evaluate", "catalog", "--demo"], "--demo is a catalogue of its own"),
        (["finetune", "catalog", "--dry-run", "--output", "there"], "--dry-run writes nothing"),
        (["finetune", "catalog", "--dry-run", "--restart"], "--dry-run writes nothing"),
        (["embed", "catalog", "--dry-run", "--vectors", "v.parquet"], "--dry-run predicts encoding"),
    ],
)
def test_options_that_a_call_cannot_honour_are_errors(arguments, said, tmp_path):
    done = CliRunner().invoke(app, [*arguments, "--workspace", str(tmp_path / ".molar")])
    assert done.exit_code == 2
    assert said in done.stderr
    assert "remedy:" in done.stderr


def test_options_that_would_change_nothing_are_errors(trained, tmp_path):
    shop = molar.Shop(trained.shop, tmp_path / ".molar")
    with pytest.raises(SettingsError, match="taken as they are: model, dim would change nothing"):
        shop.embed(vectors=tmp_path / "v.parquet", model="builtin", dim=8)
    for fine_tune in (shop.finetune, shop.finetune_forecast):
        with pytest.raises(SettingsError, match=r"gets a head.*: examples would change nothing"):
            fine_tune(examples=10)
    with pytest.raises(SettingsError, match=r"no tower is trained.*: epochs would change nothing"):
        shop.align(preset="instant", epochs=3)


def test_a_query_reports_every_mistake_in_the_settings(trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / ".molar")
    asked = ["query", "--user", trained.user, "--workspace", str(tmp_path / ".molar")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    for mistake in ("[align]\nepoch = 3\n", "[index\n", '[embed]\nbatch_size = "many"\n', "[what]\n"):
        (tmp_path / "molar.toml").write_text(mistake, "utf-8")
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 2
        assert "molar.toml" in done.stderr
