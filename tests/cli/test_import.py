"""`molar import` as a program: output, exit codes, errors."""

import json

import pytest

from molar_retrieval.data.importers.run import FORMATS


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "movies.dat").write_text("1::One (2001)::Drama\n2::Two (2002)::Drama|War\n")
    (folder / "ratings.dat").write_text("1::1::5::978300760\n1::2::3::978302109\n2::9::3::978301968\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n")
    return folder


def test_it_says_what_it_did(molar, films, tmp_path):
    done = molar("import", "movielens", films, "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"movielens from movies.dat, ratings.dat, users.dat in {tmp_path / 'out'}: 2 items (2 with interactions, "
        "0 with a photo), 2 interactions of 1 users",
        "left out: 1 × item unknown to the items file (ratings.dat, row 3: item unknown to the items file: '9')",
        f"each row left out is listed in {tmp_path / 'out' / 'rejects.parquet'}",
    ]
    assert f"next: molar embed {tmp_path / 'out'}" in done.stderr


def test_json_is_one_document(molar, films, tmp_path):
    done = molar("import", "movielens", films, "--to", tmp_path / "out", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["items"], report["interactions"], report["users"], report["photos"]) == (2, 2, 1, 0)
    assert report["dropped"] == {"item unknown to the items file": 1}
    assert report["folder"] == str(tmp_path / "out")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["movielense", "ml-1m", "--to", "out"], 2, "did you mean movielens?"),
        (["movielens", "ml-1m", "--to", "out", "--level", "article"], 2, "leave --level out"),
        (["movielens", "nowhere", "--to", "out"], 1, "there is no folder nowhere"),
        (["hm", "ml-1m", "--to", "out"], 1, "ml-1m has no articles.csv"),
        (["movielens", "ml-1m", "--to", "ml-1m"], 1, "no import wrote"),
        (["movielens", "ml-1m", "--to", "out", "--posters", "nowhere"], 1, "there is no folder nowhere"),
        (["movielens", "ml-1m"], 2, "--to"),
    ],
)
def test_errors_name_the_remedy(molar, films, tmp_path, arguments, code, told):
    done = molar("import", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert told in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_overwrite(molar, films, tmp_path):
    assert molar("import", "movielens", films, "--to", tmp_path / "out").returncode == 0
    again = molar("import", "movielens", films, "--to", tmp_path / "out")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    done = molar("import", "movielens", films, "--to", tmp_path / "out", "--overwrite", "--quiet")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_was_imported_can_be_embedded(molar, films, tmp_path):
    molar("import", "movielens", films, "--to", tmp_path / "out")
    done = molar("embed", tmp_path / "out", "--workspace", tmp_path / ".molar", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["catalogue"]
    assert (facts["items"], facts["attributes"], facts["language"]) == (2, ["genres", "year"], "en")


def test_the_help_names_every_format(molar):
    told = molar("import", "--help").stdout
    assert all(name in told for name in FORMATS)
