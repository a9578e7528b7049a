"""`molar check` as a program: output, exit codes, errors."""

import json

import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.demo import write_demo_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "shop"
    write_demo_shop(folder, items=60, users=40)
    table = pq.read_table(folder / "items.parquet").to_pylist()
    (folder / table[0]["image"] if table[0]["image"] else folder / table[1]["image"]).write_bytes(b"no picture")
    return folder


def test_it_says_what_is_wrong_and_what_to_do(molar, shop, tmp_path):
    done = molar("check", shop, "--fix-list", tmp_path / "fix.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("shop can be used, but not all of it: 60 items; 1 error, 0 warnings")
    assert lines[1].startswith("What the error is about is left out; used are 60 items, ")
    assert any("Not a picture that can be read; for example SKU-" in line for line in lines)
    assert any("→ save it anew" in line for line in lines)
    assert "What to expect" in lines
    assert any(line.startswith("not checked: photos were not compared with words") for line in lines)
    assert f"page: {tmp_path / '.molar' / 'check.html'}" in lines
    assert (tmp_path / ".molar" / "check.html").read_text("utf-8").startswith("<!doctype html>")
    kinds = [row["kind"] for row in pq.read_table(tmp_path / "fix.parquet").to_pylist()]
    assert kinds.count("photo.unreadable") == 1


def test_json_is_one_document_and_strict_fails(molar, shop, tmp_path):
    done = molar("check", shop, "--json", "--quiet", "--strict", "--page", "page.html", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["usable"] is True
    assert report["counts"]["error"] == 1
    assert report["page"] == "page.html"
    assert (tmp_path / "page.html").exists()


def test_unusable_data_exit_with_1(molar, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\n,a\n")
    done = molar("check", "shop", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("shop cannot be used")
    assert "missing id" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere"], 1, "there is no folder"),
        (["shop", "--gpu", "A100"], 2, "No such option: --gpu"),
    ],
)
def test_errors_name_the_remedy(molar, shop, tmp_path, arguments, code, told):
    named = [shop if argument == "shop" else argument for argument in arguments]
    done = molar("check", *named, cwd=tmp_path)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert named[0] == shop or not (tmp_path / ".molar").exists()


def test_prices_that_can_be_read_in_two_ways_are_a_finding_until_the_setting_tells(molar, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "items.csv").write_text("id;title;price\na;Stuhl;1,299\nb;Tisch;2,450\n")
    done = molar("check", folder, "--json", cwd=tmp_path)
    (finding,) = [kind for kind in json.loads(done.stdout)["found"] if kind["kind"] == "attribute.wrong_type"]
    (example,) = finding["examples"]
    assert example["column"] == "price"
    assert '[items] decimal = ","' in example["detail"]
    (folder / "catalog.toml").write_text('[items]\ndecimal = ","')
    done = molar("check", folder, "--json", cwd=tmp_path)
    assert "attribute.wrong_type" not in [kind["kind"] for kind in json.loads(done.stdout)["found"]]


def test_the_items_file_stands_for_its_folder_and_no_other_file_does(molar, shop, tmp_path):
    (items,) = shop.glob("items.*")
    done = molar("check", items, "--no-photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shop can be used, but not all of it: 60 items")
    (log,) = shop.glob("interactions.*")
    done = molar("check", log, cwd=tmp_path)
    assert done.returncode != 0
    assert f"{log} is a file that no catalog.toml names" in done.stderr
    assert f"name the folder: {shop}" in done.stderr
