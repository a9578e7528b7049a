"""How a workspace comes to name its people by pseudonyms, and what it refuses."""

from contextlib import closing

import pytest

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.privacy.pseudonymisation import ensure_pseudonyms, has_people
from molar_retrieval.privacy.pseudonyms import FILE, Pseudonymiser, is_pseudonym, new_key, read_keys, write_keys
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import PrivacySettings

VIEW = {"event": "view", "item_id": "i", "timestamp": 1.7e9}


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys" / "shop"))
    return PrivacySettings(ids="pseudonymous", key_file=tmp_path / "keys" / "shop")


def made(folder):
    (folder / "shop").mkdir(parents=True)
    return Workspace.for_catalogue(folder / ".molar", folder / "shop")


def append(workspace, *events):
    with closing(EventLog(workspace)) as log:
        return log.append(enumerate({"event_id": f"e{n}", **VIEW, **one} for n, one in enumerate(events)))


def stored(workspace):
    with closing(EventLog.existing(workspace)) as log:
        return log.table().select(["user_id", "session_id"]).to_pylist()


def test_a_key_is_made_once_and_workspaces_may_share_it(tmp_path, keyed):
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    for workspace in (first, second, first):
        ensure_pseudonyms(workspace, keyed)
    assert len(read_keys(keyed.key_file)) == 1
    assert [path.name for path in keyed.key_file.parent.iterdir()] == ["shop"]
    names = Pseudonymiser.of(first.root)
    assert names.user("anna") == Pseudonymiser.of(second.root).user("anna")
    append(first, {"user_id": "anna"}, {"session_id": "s"}, {"event": "identify", "user_id": "anna", "session_id": "s"})
    assert {row["user_id"] for row in stored(first)} == {names.user("anna"), None}
    assert {row["session_id"] for row in stored(first)} == {names.session("s"), None}


def test_who_has_people_by_ids_is_told_to_rotate(tmp_path, keyed):
    workspace = made(tmp_path)
    append(workspace, {"event": "item_upsert", "data": {"price": 1.0}})
    assert not has_people(workspace), "an item is nobody"
    append(workspace, {"event_id": "of a person", "user_id": "anna"})
    with pytest.raises(DataError, match="named by the shop's ids") as told:
        ensure_pseudonyms(workspace, keyed)
    assert "molar privacy rotate" in told.value.hint
    assert not (workspace.root / FILE).exists()
    assert not keyed.key_file.exists()


def test_what_is_on_record_holds_whatever_settings_say(tmp_path, keyed):
    workspace = made(tmp_path)
    ensure_pseudonyms(workspace, keyed)
    ensure_pseudonyms(workspace, PrivacySettings())
    append(workspace, {"user_id": "anna"})
    ensure_pseudonyms(workspace, keyed)
    assert is_pseudonym(stored(workspace)[0]["user_id"])


@pytest.mark.parametrize("where", [".molar/keys", "shop/keys"])
def test_keys_beside_what_they_protect_are_refused(tmp_path, where):
    workspace = made(tmp_path)
    with pytest.raises(SettingsError, match="beside what it is to protect"):
        ensure_pseudonyms(workspace, PrivacySettings(ids="pseudonymous", key_file=tmp_path / where), tmp_path / "shop")
    assert not (tmp_path / where).exists()


def test_without_its_keys_nobody_is_stored(tmp_path, keyed):
    workspace = made(tmp_path)
    ensure_pseudonyms(workspace, keyed)
    keyed.key_file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        append(workspace, {"user_id": "anna"})
    write_keys(keyed.key_file, (new_key(),))
    with pytest.raises(DataError, match="has the keys"):
        append(workspace, {"user_id": "anna"})
    assert stored(workspace) == []


def test_a_pseudonym_that_is_sent_is_who_has_it(tmp_path, keyed):
    """As a page of the studio names people so."""
    workspace = made(tmp_path)
    ensure_pseudonyms(workspace, keyed)
    name = Pseudonymiser.of(workspace.root).user("anna")
    append(workspace, {"user_id": "anna"}, {"user_id": name})
    assert [row["user_id"] for row in stored(workspace)] == [name, name]
