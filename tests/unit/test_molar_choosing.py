"""The settings of one call, and the server that they name."""

import pytest

from molar.choosing import server_of, settings_of
from molar_retrieval.errors import SettingsError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("MOLAR_INDEX_URL", raising=False)
    return tmp_path / ".molar"


def test_a_query_heeds_every_mistake_in_the_settings(root):
    (root.parent / "molar.toml").write_text("[align]\nepoch = 3\n")
    with pytest.raises(SettingsError, match=r"unknown key 'align\.epoch'"):
        server_of(root)


def test_without_settings_none_are_read(root, monkeypatch):
    monkeypatch.setattr("molar.choosing.settings_of", lambda *_, **__: pytest.fail("they were read"))
    assert server_of(root) is None
    assert server_of(root, index="local") is None


def test_a_server_is_named_by_the_call_the_environment_or_the_user(root, monkeypatch, user_configuration):
    assert server_of(root, index="http://a:6333").url == "http://a:6333"
    (root.parent / "molar.toml").write_text('[index]\nfallback = "local"\n')
    user_configuration('[index]\nurl = "http://b:6333"\nfallback = "none"\n')
    assert (server_of(root).url, server_of(root).fallback) == ("http://b:6333", "local")
    assert server_of(root, index_fallback="none").fallback == "none"
    assert server_of(root, index="local") is None
    monkeypatch.setenv("MOLAR_INDEX_URL", "http://c:6333")
    assert server_of(root).url == "http://c:6333"


def test_trust_comes_from_the_call_alone(root):
    assert not settings_of(root).embed.trusts_code
    assert settings_of(root, trust=True).embed.trusts_code
