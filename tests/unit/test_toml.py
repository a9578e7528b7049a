"""Keys of settings files, written without touching what people wrote beside them."""

import pytest

from molar_retrieval.errors import SettingsError
from molar_retrieval.toml import parse_toml, with_keys

WRITTEN = """# ours, of March
[embed]
model = "builtin"  # the fast one

[align]   # see the wiki
# try more some day
dropout = 0.2  # was 0.3
preset = 'fast'

# the end
"""


def test_comments_and_other_lines_stay():
    changed = with_keys(WRITTEN, {"align": {"dropout": 0.35, "blocks": 3, "preset": "best"}}, "molar.toml")
    lines = WRITTEN.replace("dropout = 0.2 ", "dropout = 0.35 ").replace("'fast'", '"best"\nblocks = 3')
    assert changed == lines


def test_a_table_that_is_missing_comes_last():
    assert with_keys("", {"cf": {"alpha": 2.5, "on": True}}, "molar.toml") == "[cf]\nalpha = 2.5\non = true\n"
    assert with_keys("[a]\nb = 1", {"cf": {"alpha": 2}}, "molar.toml") == "[a]\nb = 1\n\n[cf]\nalpha = 2\n"
    assert with_keys("[cf]\n", {"cf": {"alpha": 1e-05}}, "molar.toml") == "[cf]\nalpha = 1e-05\n"


@pytest.mark.parametrize("name", ["alpha_more", "more_alpha"])
def test_keys_with_like_names_are_others(name):
    changed = with_keys(f"[cf]\n{name} = 1\n[cfs]\nalpha = 3\n", {"cf": {"alpha": 2}}, "molar.toml")
    assert parse_toml(changed, "here") == {"cf": {name: 1, "alpha": 2}, "cfs": {"alpha": 3}}


@pytest.mark.parametrize(
    "text",
    [
        "cf.alpha = 1\n",
        "cf = { alpha = 1 }\n",
        '[cf]\nalpha = """\n2"""\n',
        "[cf]\nalpha = [\n 1,\n]\n",
        'note = """\n[cf]\n"""\n',
        '["cf"]\nalpha = 1\n',
    ],
)
def test_what_cannot_be_changed_line_by_line_is_told(text):
    with pytest.raises(SettingsError, match="line by line") as error:
        with_keys(text, {"cf": {"alpha": 2}}, "molar.toml")
    assert error.value.hint == "write into it: [cf] alpha = 2"


def test_a_file_that_is_none_is_told():
    with pytest.raises(SettingsError, match="not valid TOML"):
        with_keys("[cf\n", {"cf": {"alpha": 2}}, "molar.toml")
