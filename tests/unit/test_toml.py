"""Keys of settings files, written without touching what people wrote beside them."""

import pytest

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.config_files import parse_toml, with_keys

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
    changed = with_keys(WRITTEN, {"align": {"dropout": 0.35, "n_blocks": 3, "preset": "best"}}, "molar.toml")
    lines = WRITTEN.replace("dropout = 0.2 ", "dropout = 0.35 ").replace("'fast'", '"best"')
    assert changed == f"{lines}n_blocks = 3\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[als]\n",
        "[a]\nb = 1",
        "[als]\nalpha_more = 1\nmore_alpha = 1\n[alss]\nalpha = 3\n",
        "als.alpha = 1\n",
        "als = { alpha = 1 }\n",
        '[als]\nalpha = """\n2"""\n',
        "[als]\nalpha = [\n 1,\n]\n",
        'note = """\n[als]\n"""\n',
        '["als"]\nalpha = 1\n',
        "[als.more]\nalpha = 1\r\n",
    ],
)
def test_a_key_is_changed_however_it_is_written(text):
    wanted = parse_toml(text, "molar.toml")
    wanted["als"] = {**wanted.get("als", {}), "alpha": 1e-05, "on": True}
    assert parse_toml(with_keys(text, {"als": {"alpha": 1e-05, "on": True}}, "molar.toml"), "here") == wanted


def test_a_file_that_is_none_is_told():
    with pytest.raises(SettingsError, match="not valid TOML"):
        with_keys("[als\n", {"als": {"alpha": 2}}, "molar.toml")
