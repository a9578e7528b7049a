"""Pseudonyms: the same for the same keys, whoever asks; nothing without them; keys that are not lost without a word."""

import json
from hashlib import blake2b

import pyarrow as pa
import pytest

from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.privacy.pseudonyms import (
    FILE,
    Pseudonymiser,
    hashed,
    is_pseudonym,
    outside,
    read_keys,
    record,
    write_keys,
)
from molar_retrieval.workspace.settings import PrivacySettings, validated

FIRST, SECOND = bytes(range(32)), bytes(range(1, 33))


def test_without_keys_people_are_called_as_the_shop_does(tmp_path):
    plain = Pseudonymiser.of(tmp_path)
    assert plain.user("anna") == plain.session("anna") == "anna"
    ids = pa.array(["anna", None])
    assert plain.users(ids) is ids


def test_a_pseudonym_is_a_keyed_blake2b_of_the_id():
    name = Pseudonymiser((FIRST,)).user("anna")
    assert name == "~" + blake2b(b"anna", digest_size=16, key=FIRST, person=b"molar user").hexdigest()
    assert is_pseudonym(name)
    assert not is_pseudonym("anna")


def test_user_and_session_of_one_name_have_two_pseudonyms():
    keyed = Pseudonymiser((FIRST,))
    assert keyed.user("5") != keyed.session("5")


def test_many_are_named_as_one_by_one():
    keyed = Pseudonymiser((FIRST, SECOND))
    ids = pa.array(["anna", None, "béla"])
    assert keyed.users(ids).to_pylist() == [keyed.user("anna"), None, keyed.user("béla")]
    assert keyed.sessions(ids).to_pylist() == [keyed.session("anna"), None, keyed.session("béla")]


def test_a_pseudonym_stays_what_it_is():
    keyed = Pseudonymiser((FIRST,))
    name = keyed.user("anna")
    assert keyed.user(name) == keyed.session(name) == name


@pytest.mark.parametrize("kind", ["user", "session"])
def test_another_key_hashes_what_is_stored_and_needs_no_ids(kind):
    before = Pseudonymiser((FIRST,))
    after = Pseudonymiser((FIRST, SECOND))
    assert getattr(after, kind)("anna") == hashed(getattr(before, kind)("anna"), [SECOND])


def test_keys_are_known_by_marks_that_depend_on_all_of_them():
    assert Pseudonymiser((FIRST,)).marks == (Pseudonymiser((FIRST, SECOND)).marks[0],)
    assert len(set(Pseudonymiser((FIRST, SECOND)).marks)) == 2


def test_a_workspace_finds_its_keys_and_follows_when_there_are_more(tmp_path, monkeypatch):
    workspace, file = tmp_path / "work", tmp_path / "keys"
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(file))
    workspace.mkdir()
    one = Pseudonymiser((FIRST,))
    write_keys(file, one.keys)
    record(workspace, one, file)
    assert Pseudonymiser.of(workspace) == one
    assert file.stat().st_mode & 0o777 == (workspace / FILE).stat().st_mode & 0o777 == 0o600
    two = Pseudonymiser((FIRST, SECOND))
    write_keys(file, two.keys)
    assert Pseudonymiser.of(workspace) == one, "the file may be ahead of the workspace"
    record(workspace, two, file)
    assert Pseudonymiser.of(workspace) == two
    assert FIRST.hex() not in (workspace / FILE).read_text()


def test_keys_may_be_elsewhere_on_another_machine(tmp_path, monkeypatch):
    write_keys(tmp_path / "there", (FIRST,))
    record(tmp_path, Pseudonymiser((FIRST,)), tmp_path / "keys")
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "there"))
    assert Pseudonymiser.of(tmp_path).keys == (FIRST,)


def test_other_keys_and_none_are_errors(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    record(tmp_path, Pseudonymiser((FIRST,)), file)
    with pytest.raises(DataError, match="no file of their keys is named") as told:
        Pseudonymiser.of(tmp_path)
    assert "MOLAR_PRIVACY_KEY_FILE" in told.value.hint
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(file))
    with pytest.raises(DataError, match="cannot be read"):
        Pseudonymiser.of(tmp_path)
    write_keys(file, (SECOND,))
    with pytest.raises(DataError, match="has the keys"):
        Pseudonymiser.of(tmp_path)


def test_files_that_others_may_read_and_lines_that_are_no_keys_are_errors(tmp_path):
    file = tmp_path / "keys"
    write_keys(file, (FIRST,))
    file.chmod(0o644)
    with pytest.raises(DataError, match="others may read") as told:
        read_keys(file)
    assert "chmod 600" in told.value.hint
    file.write_text("c2hvcnQ=\n")
    file.chmod(0o600)
    with pytest.raises(DataError, match="line 1"):
        read_keys(file)


def test_a_damaged_record_is_told(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"keys": ["ab"]}))
    with pytest.raises(DataError, match="does not say which keys"):
        Pseudonymiser.of(tmp_path)


def test_keys_beside_what_they_protect_are_refused(tmp_path):
    assert outside(tmp_path / "keys", tmp_path / "shop") == tmp_path / "keys"
    with pytest.raises(SettingsError, match="beside what it is to protect"):
        outside(tmp_path / "shop" / "keys", tmp_path / "other", tmp_path / "shop")


def test_keyed_ids_need_a_place_for_the_keys():
    with pytest.raises(SettingsError, match="key_file"):
        validated(PrivacySettings, {"ids": "pseudonymous"}, "molar.toml")
