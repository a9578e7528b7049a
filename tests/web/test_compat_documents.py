"""The code in docs/compat.md runs as it stands there, but for address and key."""

import re
from pathlib import Path

import pytest
from copies import copy_workspace
from web_server import address_of

from molar_serving.auth import Keyring, signing_token

PAGE = (Path(__file__).parents[2] / "docs" / "compat.md").read_text("utf-8")
CODE = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("compat") / ".molar")
    key = Keyring(workspace).add("shop", ["answer", "events", "catalogue"], signing=True)
    with address_of(workspace) as address:
        yield address, key


@pytest.mark.parametrize("product", CODE)
def test_the_code_of_each_product_runs(served, trained, product):
    address, key = served
    code = CODE[product].replace("http://127.0.0.1:8080", address).replace("u0001", trained.user)
    names = {"KEY": key, "TOKEN": signing_token(key)}
    exec(code.replace("127.0.0.1:8080", address.removeprefix("http://")), names)
    if "scores" in names:
        assert len(names["scores"]) == 10


def test_every_product_of_the_table_has_code():
    assert {re.sub(r"\W", "", name.lower()) for name in re.findall(r"^\| \[(.+?)\]\(#", PAGE, re.MULTILINE)} == {
        re.sub(r"\W", "", name.lower()) for name in CODE
    }
