"""Settings: presets under what is given, names from the environment, errors that name what was meant."""

import re
from pathlib import Path

import pytest

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.config_files import PRESETS
from molar_retrieval.workspace.settings import AlignSettings, IndexSettings, MolarSettings, validated, with_preset


def load(tmp_path, toml="", environ=None, **flags):
    (tmp_path / "molar.toml").write_text(toml)
    return MolarSettings.load(tmp_path, environ=environ or {}, flags=flags)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_what_it_names_and_nothing_else(name):
    plain, chosen = AlignSettings().model_dump(), AlignSettings(preset=name).model_dump()
    assert {key for key in plain if plain[key] != chosen[key]} == {
        *PRESETS[name],
        *(() if name == "default" else ("preset",)),
    }
    for key, value in PRESETS[name].items():
        assert chosen[key] == value


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_given_wins_over_the_preset_even_if_it_is_the_default(name):
    for key in PRESETS[name]:
        default = AlignSettings.model_fields[key].default
        assert getattr(AlignSettings(preset=name, **{key: default}), key) == default
    own = {"epochs": 2, "models": ("content_tower",), "embedding_dim": 24, "dropout": 0.05}
    chosen = AlignSettings(preset=name, **own)
    assert {key: getattr(chosen, key) for key in own} == own


def test_presets_are_told_apart_and_the_default_has_everything():
    assert AlignSettings() == AlignSettings(preset="default")
    assert AlignSettings(preset="instant").towers == ()
    assert AlignSettings(preset="fast").towers == ("id_tower",)
    assert AlignSettings(preset="best").epochs > AlignSettings().epochs > AlignSettings(preset="fast").epochs


@pytest.mark.parametrize("name", PRESETS)
def test_settings_that_were_written_down_come_back(name):
    settings = AlignSettings(preset=name, max_history=9)
    assert AlignSettings(**settings.model_dump(mode="json")) == settings
    changed = settings.model_copy(update={"models": ("content_tower",), "epochs": 77})
    assert AlignSettings(**changed.model_dump(mode="json")) == changed


def test_file_environment_and_flags_in_this_order(tmp_path):
    toml = "[align]\npreset = 'instant'\nepochs = 3\nmax_history = 9\n"
    assert load(tmp_path, toml).align == AlignSettings(preset="instant", epochs=3, max_history=9)
    environ = {"MOLAR_ALIGN_PRESET": "best", "MOLAR_ALIGN_EPOCHS": "4"}
    assert load(tmp_path, toml, environ).align == AlignSettings(preset="best", epochs=4, max_history=9)
    flags = {"align": {"preset": "fast", "epochs": None, "embedding_dim": 8}}
    assert load(tmp_path, toml, environ, **flags).align == AlignSettings(
        preset="fast", epochs=4, max_history=9, embedding_dim=8
    )
    assert load(tmp_path, toml, environ, **flags).align.towers == ("id_tower",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("content_tower", ("content_tower",)),
        ("id_tower,ease", ("id_tower", "ease")),
        (" content_tower , id_tower,", ("content_tower", "id_tower")),
    ],
)
def test_names_from_the_environment(tmp_path, text, expected):
    for preset in ("default", "instant"):
        environ = {"MOLAR_ALIGN_MODELS": text, "MOLAR_ALIGN_PRESET": preset}
        assert load(tmp_path, environ=environ).align.models == expected
    with pytest.raises(SettingsError, match="models"):
        load(tmp_path, environ={"MOLAR_ALIGN_MODELS": ""})


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("0.2", 0.2), (0, 0.0), (0.9, 0.9), ("0", 0.0)])
def test_room_for_newcomers(value, expected):
    settings = AlignSettings(cold_start_share=value)
    assert settings.cold_start_share == expected
    assert AlignSettings(**settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("value", ["some", -0.1, 1.5, 10])
def test_no_room_for_newcomers_that_there_cannot_be(value):
    with pytest.raises(SettingsError, match="cold_start_share"):
        validated(MolarSettings, {"align": {"cold_start_share": value}}, "here")


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("models", ["sequense"], "sequential"),
        ("models", "ease,contents_knn", "content_knn"),
        ("objectives", ["future_item"], "future_items"),
        ("preset", "instand", "instant"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(key, value, nearest):
    with pytest.raises(SettingsError) as caught:
        validated(MolarSettings, {"align": {key: value}}, "here")
    wrong = value[0] if isinstance(value, list) else value.split(",")[-1]
    assert f"align.{key}" in caught.value.message
    assert repr(wrong) in caught.value.message
    assert repr(nearest) in caught.value.message + caught.value.hint
    assert "here" in caught.value.message


def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "[align]\nmodel = ['ease']\n")
    assert "align.model" in caught.value.message
    assert "'models'" in caught.value.hint
    with pytest.raises(SettingsError, match="MOLAR_ALIGN_EPOCH") as caught:
        load(tmp_path, "", environ={"MOLAR_ALIGN_EPOCH": "3"})
    assert "'epochs'" in caught.value.hint
    assert "molar.toml" not in caught.value.message


@pytest.mark.parametrize("name", ["MOLAR_ALIGNN_EPOCHS", "MOLAR_ALING_EPOCHS", "MOLAR_ALIN_EPOCHS"])
def test_a_misspelled_section_of_a_variable_is_an_error_that_names_the_nearest(tmp_path, name):
    with pytest.raises(SettingsError, match=name) as caught:
        load(tmp_path, environ={name: "3"})
    assert "MOLAR_ALIGN_EPOCHS" in caught.value.hint


@pytest.mark.parametrize("name", ["MOLAR_KEY", "MOLAR_HOME", "MOLAR_SERVICE_HOST", "MOLAR_PORT_8080_TCP"])
def test_a_variable_that_is_no_setting_is_ignored(tmp_path, name):
    assert load(tmp_path, environ={name: "x"}) == load(tmp_path)


def test_every_variable_that_the_documents_name_is_known(tmp_path):
    root = Path(__file__).resolve().parents[2]
    files = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("deploy/*"), root / "Dockerfile"]
    texts = "\n".join(path.read_text("utf-8") for path in files)
    names = set(re.findall(r"\bMOLAR_[A-Z_]*[A-Z]\b", texts)) - {"MOLAR_SECTION_KEY"}
    assert {"MOLAR_KEY", "MOLAR_ALIGN_EPOCHS", "MOLAR_WORKSPACE"} <= names
    refused = []
    for name in names:
        try:
            load(tmp_path, environ={name: "1"})
        except SettingsError as error:
            refused.append(error.message)
    assert [message for message in refused if "unknown" in message] == []  # a wrong value is no matter here


def test_another_preset_keeps_the_machine_and_the_seed():
    settings = MolarSettings(
        align=AlignSettings(preset="fast", epochs=2, threads=1, seed=7, device="cpu", precision="float32")
    )
    other = with_preset(settings, "instant")
    assert other.align == AlignSettings(preset="instant", threads=1, seed=7, device="cpu", precision="float32")
    assert (other.als, other.index) == (settings.als, settings.index)


@pytest.mark.parametrize("url", ["http://ada:pa55word@db:6333", "https://db/?api_key=pa55word", "db:6333", "ftp://db"])
def test_an_address_is_one_and_no_secret_of_it_is_shown(tmp_path, url):
    with pytest.raises(SettingsError) as error:
        load(tmp_path, environ={"MOLAR_INDEX_URL": url})
    said = f"{error.value.message} {error.value.hint}"
    assert "pa55word" not in said
    assert "index.url" in said


def test_where_a_generation_is_served_from_does_not_shape_it():
    served = IndexSettings(url="http://db:6333/", shards=3, quantisation="scalar", users="server")
    assert served.url == "http://db:6333"
    assert served.of_generation() == IndexSettings().of_generation()
    assert IndexSettings(ef=64).of_generation() != IndexSettings().of_generation()


def test_a_preset_that_is_no_word_is_named():
    with pytest.raises(SettingsError, match=r"align\.preset"):
        validated(MolarSettings, {"align": {"preset": []}}, "molar.toml")


def test_the_user_configuration_lies_beneath_the_file_the_environment_and_flags(tmp_path, user_configuration):
    path = user_configuration("[align]\nepochs = 2\nseed = 2\npatience = 2\n[als]\nfactors = 8\n")
    (tmp_path / "molar.toml").write_text("[align]\nseed = 3\npatience = 3\n")
    found = MolarSettings.load(tmp_path, environ={"MOLAR_ALIGN_PATIENCE": "4"}, flags={"als": {"factors": 9}})
    assert (found.align.epochs, found.align.seed, found.align.patience, found.als.factors) == (2, 3, 4, 9)
    path.write_text("align = 1\n")
    with pytest.raises(SettingsError, match=r"config\.toml: align is no table"):
        MolarSettings.load(tmp_path, environ={})
    path.write_text("[align]\nepoch = 1\n")
    with pytest.raises(SettingsError, match=r"config\.toml: unknown key 'align\.epoch'"):
        MolarSettings.load(tmp_path, environ={})
