"""What all imports share: the folder appears whole or not at all, photos are linked, memory is bounded."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importer_checks import photo, prepared

from molar_retrieval.data.importers import ImportReport, import_dataset
from molar_retrieval.data.importers.formats import as_numbers
from molar_retrieval.data.importers.run import FORMATS, open_published
from molar_retrieval.data.rows import TableFile
from molar_retrieval.errors import DataError, SettingsError


def _films(folder: Path, *, extra: str = "") -> Path:
    folder.mkdir()
    (folder / "movies.csv").write_text("movieId,title,genres\n1,One (2001),Drama\n2,Two (2002),Drama\n" + extra)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,964982703\n")
    return folder


@pytest.fixture
def films(tmp_path):
    return _films(tmp_path / "films")


def _left(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))


def test_the_report_lies_beside_the_data(films, tmp_path):
    report = import_dataset("movielens", films, tmp_path / "deep" / "er" / "out")
    assert isinstance(report, ImportReport)
    written = json.loads((tmp_path / "deep" / "er" / "out" / "import.json").read_text())
    assert written == {name: value for name, value in _plain(report).items() if name != "folder"}
    assert (written["format"], written["items"], written["used"]) == ("movielens", 2, 1)
    assert report.lines()[0].startswith("movielens from movies.csv, ratings.csv in ")


def _plain(report):
    return json.loads(json.dumps(report.to_dict()))


def test_the_catalogue_says_which_columns_enter_the_vectors(films, tmp_path):
    import_dataset("movielens", films, tmp_path / "out")
    toml = (tmp_path / "out" / "catalog.toml").read_text()
    assert 'attributes = ["genres", "year"]' in toml
    assert 'language = "en"' in toml


def test_an_empty_folder_is_used_and_a_full_one_refused(films, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    import_dataset("movielens", films, out)
    with pytest.raises(DataError, match="holds an earlier import") as caught:
        import_dataset("movielens", films, out)
    assert "--overwrite" in caught.value.hint
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "items.parquet").write_text("my own catalogue")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="something that no import wrote"):
            import_dataset("movielens", films, mine, overwrite=overwrite)
    with pytest.raises(DataError, match="is a file"):
        import_dataset("movielens", films, films / "movies.csv", overwrite=True)
    assert (mine / "items.parquet").read_text() == "my own catalogue"
    assert _left(tmp_path) == []


def test_overwriting_replaces_the_whole_folder(films, tmp_path):
    out = tmp_path / "out"
    photo(films / "images" / "1.jpg")
    import_dataset("movielens", films, out)
    other = _films(tmp_path / "other", extra="3,Three (2003),Drama\n")
    report = import_dataset("movielens", other, out, overwrite=True)
    assert report.items == 3
    assert not (out / "images").exists()
    assert list(prepared(out).items) == ["1", "2", "3"]
    assert _left(tmp_path) == []


def test_overwriting_deletes_nothing_of_anybody_else(films, tmp_path):
    out = tmp_path / "out"
    import_dataset("movielens", films, out)
    (out / ".molar").mkdir()
    with pytest.raises(DataError, match=r"also holds \.molar"):
        import_dataset("movielens", films, out, overwrite=True)
    assert (out / ".molar").is_dir()


def test_a_failure_leaves_the_earlier_import_and_nothing_else(films, tmp_path):
    out = tmp_path / "out"
    import_dataset("movielens", films, out)
    before = (out / "items.parquet").read_bytes()
    (films / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,77,4.0,964982703\n")
    with pytest.raises(DataError, match="none of its 1 rows"):
        import_dataset("movielens", films, out, overwrite=True)
    assert (out / "items.parquet").read_bytes() == before
    assert _left(tmp_path) == []


def test_the_earlier_import_comes_back_where_the_last_step_fails(films, tmp_path, monkeypatch):
    out = tmp_path / "out"
    import_dataset("movielens", films, out)
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError):
        import_dataset("movielens", films, out, overwrite=True)
    assert (out / "items.parquet").is_file()
    assert _left(tmp_path) == []


def test_an_interrupted_import_leaves_nothing(films, tmp_path):
    class Impatient:
        def start(self, task, total): ...
        def note(self, message): ...
        def finish(self): ...
        def advance(self, n=1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset("movielens", films, tmp_path / "out", progress=Impatient())
    assert not (tmp_path / "out").exists()
    assert _left(tmp_path) == []


def test_the_folder_has_the_usual_permissions(films, tmp_path):
    usual = tmp_path / "usual"
    usual.mkdir()
    import_dataset("movielens", films, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == usual.stat().st_mode


def test_photos_are_linked_not_copied(films, tmp_path):
    posters = tmp_path / "posters"
    original = photo(posters / "1.JPG")
    (posters / "2.jpg").symlink_to(original)
    report = import_dataset("movielens", films, tmp_path / "out", photos=posters)
    assert report.photos == 2
    images = tmp_path / "out" / "images"
    for name in ("1.jpg", "2.jpg"):
        assert not (images / name).is_symlink()
        assert (images / name).samefile(original)
    assert [row["image"] for row in prepared(tmp_path / "out").items.values()] == ["images/1.jpg", "images/2.jpg"]


def test_photos_are_copied_where_links_are_not_possible(films, tmp_path, monkeypatch):
    original = photo(tmp_path / "posters" / "1.jpg")
    (tmp_path / "posters" / "2.jpg").symlink_to("nowhere.jpg")

    def refuse(self, target):
        raise OSError("another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    report = import_dataset("movielens", films, tmp_path / "out", photos=tmp_path / "posters")
    copy = tmp_path / "out" / "images" / "1.jpg"
    assert report.photos == 1
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)


def test_of_two_photos_the_first_extension_wins(films, tmp_path):
    photo(tmp_path / "posters" / "1.png", "blue")
    jpeg = photo(tmp_path / "posters" / "1.jpg")
    (tmp_path / "posters" / "1.txt").write_text("no photo")
    import_dataset("movielens", films, tmp_path / "out", photos=tmp_path / "posters")
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["1.jpg"]
    assert (tmp_path / "out" / "images" / "1.jpg").samefile(jpeg)


def test_a_photo_folder_that_was_asked_for_must_fit(films, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        import_dataset("movielens", films, tmp_path / "out", photos=tmp_path / "nowhere")
    photo(tmp_path / "posters" / "film one.jpg")
    with pytest.raises(DataError, match="no photo of any item") as caught:
        import_dataset("movielens", films, tmp_path / "out", photos=tmp_path / "posters")
    assert caught.value.hint.endswith("posters/1.jpg")


def test_an_id_never_leads_out_of_the_folder(tmp_path):
    films = _films(tmp_path / "films", extra="../../evil,Three,Drama\n")
    photo(tmp_path / "evil.jpg")
    photo(films / "images" / "1.jpg")
    report = import_dataset("movielens", films, tmp_path / "deep" / "out")
    assert (report.items, report.photos) == (3, 1)
    assert [p.name for p in (tmp_path / "deep").rglob("*.jpg")] == ["1.jpg"]


def test_unknown_formats_and_folders(films, tmp_path):
    with pytest.raises(SettingsError, match="no format 'movielense'") as caught:
        import_dataset("movielense", films, tmp_path / "out")
    assert caught.value.hint == f"did you mean movielens? known are {', '.join(FORMATS)}"
    with pytest.raises(SettingsError, match="movielens has no level 'article'"):
        open_published("movielens", films, "article")
    with pytest.raises(DataError, match="there is no folder"):
        import_dataset("hm", tmp_path / "nowhere", tmp_path / "out")


def test_strings_as_numbers():
    values = pa.array(["1", "+2.5", " 3e2 ", ".5", "1.", "", "x", "1,5", None, "nan", "0x1", "1_0"])
    assert as_numbers(values, pa.float64()).to_pylist() == [1, 2.5, 300, 0.5, 1, *[None] * 7]
    whole = pa.array(["007", "-3", "2.0", "12345678901", None])
    assert as_numbers(whole, pa.int32()).to_pylist() == [7, -3, None, None, None]


def test_small_batches_become_large_row_groups(tmp_path):
    with TableFile(tmp_path / "t.parquet") as file:
        for start in range(0, 600_000, 1000):
            file.write(pa.record_batch({"x": pa.array(range(start, start + 1000))}))
    with pq.ParquetFile(tmp_path / "t.parquet") as written:
        assert written.num_row_groups == 3
        assert written.read()["x"].to_pylist() == list(range(600_000))


_CHILD = """
import resource, sys
from pathlib import Path
from molar_retrieval.data.importers import import_dataset
report = import_dataset("movielens", Path(sys.argv[1]), Path(sys.argv[2]))
print(report.interactions, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path):
    block = "".join(f"{i % 5000}::{1 + i % 2}::3::{964982703 + i}\n" for i in range(100_000))
    peaks = []
    for rows in (400_000, 1_600_000):
        source = tmp_path / f"films{rows}"
        source.mkdir()
        (source / "movies.dat").write_text("1::One (2001)::Drama\n2::Two (2002)::Drama\n")
        with (source / "ratings.dat").open("w") as file:
            for _ in range(rows // 100_000):
                file.write(block)
        command = [sys.executable, "-c", _CHILD, str(source), str(tmp_path / f"out{rows}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak)
    # The rows themselves, as strings and numbers of Arrow, would be 40 MB.
    assert peaks[1] - peaks[0] < 20 * 1024, f"{peaks} KiB"
