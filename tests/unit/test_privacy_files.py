"""Every format in which a person may lie is decoded, and what is not is never called clean."""

import gzip
import html
import json
import sqlite3
import urllib.parse
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from support.person_scan import AS_IDS, ROW, PersonScan, own_stretches, stretches

from molar_retrieval.privacy.id_scan import BLOCK, IdPatterns, Name, is_vague, scan
from molar_retrieval.ranking.index_protocol import point_id

WHO = 'ann "ö" <7>&co/x'
NUMBER = bytes.fromhex(point_id(WHO).replace("-", ""))
ROWS = [17, 4, 99, 23]
VECTOR = np.random.default_rng(3).normal(size=8).astype(np.float32)
ITEMS = ("SKU-1", "SKU-7", "SKU-3", "SKU-9")
PERSON = PersonScan(
    IdPatterns([Name(WHO, "id"), Name(point_id(WHO), "point", packed=(NUMBER,))]),
    {np.array(ROWS, "<i4").tobytes(): "history", np.array(ROWS, "<i8").tobytes(): "history"}
    | dict.fromkeys(stretches(VECTOR), "vector"),
    [ITEMS],
)


def looked(path, person=PERSON):
    found = person.scan([path])
    assert len(found) == 1
    return found[0]


def table(**columns):
    return lambda path: pq.write_table(pa.table(columns), path, compression="zstd")


def dictionary(path):
    """A value that no row has, in the dictionary of its column alone."""
    values = pa.DictionaryArray.from_arrays(pa.array([1, 1], pa.int32()), pa.array([WHO, "other"]))
    pq.write_table(pa.table({"brand": values}), path, compression="zstd", store_schema=False)


def database(statements, *values):
    def write(path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (a, b)")
            for statement in statements:
                connection.execute(statement, values if "?" in statement else ())
        connection.close()

    return write


def text(said, encoding="utf-8"):
    return lambda path: path.write_bytes(said.encode(encoding))


def archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inner.jsonl", json.dumps({"user_id": WHO}) + "\n")


def zstd(path):
    with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as stream:
        stream.write(f"<p>{html.escape(WHO)}</p>".encode())


def payload(path):
    """A page of the engine's payloads, packed as the engine does it."""
    plain = json.dumps({"title": "x" * 90, "note": WHO}).encode()
    packed = len(plain).to_bytes(4, "little") + pa.Codec("lz4_raw").compress(plain, asbytes=True)
    (path.parent / "edge_config.json").write_text("{}")
    (path.parent / "config.json").write_text('{"compression": "LZ4", "block_size_bytes": 128}')
    (path.parent / "tracker.dat").write_bytes(b"".join(n.to_bytes(4, "little") for n in (1, 1, 0, 2, len(packed))))
    path.write_bytes(bytes(256) + packed + bytes(1000))


WIDE = [*range(200), *ROWS, *range(50)]
GONE = ["PRAGMA secure_delete = 0", "INSERT INTO t VALUES (?, 1)", "DELETE FROM t"]
PLACES = {
    "text.parquet": (table(user_id=["a", WHO]), "id"),
    "nested.parquet": (table(lists=[[{"a": "b"}], [{"a": f"to {WHO}: hello"}]]), "id"),
    "dictionary.parquet": (dictionary, "id"),
    "rows.parquet": (table(item=pa.array(WIDE, pa.int32())), "history"),
    "ids.parquet": (table(item_id=["SKU-1", *ITEMS, "SKU-2"]), AS_IDS),
    "list.parquet": (table(vector=[VECTOR.tolist()]), "vector"),
    "bytes.parquet": (table(blob=[b"..." + VECTOR.tobytes()]), "vector"),
    "row.sqlite": (database(["INSERT INTO t VALUES (?, 1)"], WHO), "id"),
    "blob.sqlite": (database(["INSERT INTO t VALUES (?, 1)"], b"x" + np.array(ROWS, "<i4").tobytes()), "history"),
    "deleted.sqlite": (
        database(GONE, WHO),
        "id",
    ),
    "log.sqlite-wal": (lambda path: path.write_bytes(b"\x37\x7f\x06\x82\xff" + WHO.encode() + b"9rest"), "id"),
    "a.safetensors": (lambda path: save_file({"m": np.vstack([VECTOR * 2, VECTOR])}, path), "vector"),
    "head.safetensors": (lambda path: save_file({"m": VECTOR * 3}, path, {"user": WHO}), "id"),
    "i.npy": (lambda path: np.save(path, np.array(WIDE)), "history"),
    "s.npy": (lambda path: np.save(path, np.array(["x", WHO])), "id"),
    "s.npz": (lambda path: np.savez_compressed(path, a=np.array(WIDE, np.int32)), "history"),
    "key.json": (text(json.dumps({"people": {WHO: 1}})), "id"),
    "history.json": (text(json.dumps({"users": [{"history": [1, 2, *ROWS]}]})), "history"),
    "items.json": (
        text(json.dumps({"rows": [{"item_id": one, "hit": 1} for one in ITEMS]})),
        AS_IDS,
    ),
    "lines.jsonl": (text('{"a": 1}\nno json ' + json.dumps(WHO) + "\n"), "id"),
    "a.csv": (lambda path: path.write_text(f'user_id,item_id\nb,c\n"{WHO.replace(chr(34), chr(34) * 2)}",d\n'), "id"),
    "items.csv": (text("item_id,n\n" + "".join(f"{one},1\n" for one in ITEMS)), AS_IDS),
    "page.html": (text(f"<i>{html.escape(WHO)}</i>"), "id"),
    "link.txt": (text(f"/users/{urllib.parse.quote(WHO, safe='')}?k=1"), "id"),
    "escaped.txt": (text(f"x {json.dumps(WHO)} y"), "id"),
    "wide.bin": (text(WHO, "utf-16-le"), "id"),
    "wide.log": (text(WHO, "utf-16"), "id"),
    "a.zip": (archive, "id"),
    "a.html.zst": (zstd, "id"),
    "a.csv.gz": (lambda path: path.write_bytes(gzip.compress(f"user_id\n{point_id(WHO)}\n".encode())), "point"),
    "page_0.dat": (payload, "id"),
    "points.mappings": (lambda path: path.write_bytes(b"\1\2\3" + NUMBER + b"\4"), "point"),
    "a.unknown": (lambda path: path.write_bytes(b"\0\1\2\xff" + VECTOR[2:6].tobytes() + b"\xff"), "vector"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_person_is_found_in_every_format(name, tmp_path):
    write, what = PLACES[name]
    path = tmp_path / name
    write(path)
    found = looked(path)
    assert found.state == "found", (found.decoder, found.doubts)
    assert what in {one.what for one in found.findings}
    assert all(one.where for one in found.findings)


@pytest.mark.parametrize("name", PLACES)
def test_who_is_not_there_is_not_found(name, tmp_path):
    write, _ = PLACES[name]
    path = tmp_path / name
    write(path)
    stranger = PersonScan(
        IdPatterns([Name("somebody-else", "id")]),
        {np.array([5, 44, 6, 10], "<i4").tobytes(): "history"} | dict.fromkeys(stretches(VECTOR * 7), "vector"),
        [("SKU-9", "SKU-1", "SKU-7", "SKU-3")],
    )
    found = looked(path, stranger)
    assert found.state == ("not proven" if found.decoder == "unknown" else "clean"), found
    assert (found.decoder == "unknown") == (name in ("a.unknown", "wide.bin", "wide.log", "points.mappings"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 and no more"),
        ("a.sqlite", b"SQLite format 3\0" + bytes(range(256)) * 20),
        ("a.safetensors", b"\xff" * 40),
        ("a.zip", b"PK\x03\x04 cut"),
        ("a.csv.gz", b"\x1f\x8b\x08 cut"),
        ("a.parquet.zst", b"\x28\xb5\x2f\xfd cut"),
        ("o.npy", b"\x93NUMPY\1\0v\0{'descr': '|O', 'shape': (1,)}   \n\x80\4."),
        ("a.mystery", bytes(range(256))),
    ],
)
def test_what_cannot_be_decoded_is_not_proven(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    found = looked(tmp_path / name)
    assert found.state == "not proven"
    assert found.doubts


@pytest.mark.parametrize(
    ("broken", "content"),
    [
        ("tracker.dat", None),
        ("tracker.dat", b"\x09\0\0\0"),
        ("config.json", b"{}"),
        ("config.json", b'{"compression": "Zip", "block_size_bytes": 128}'),
        ("page_0.dat", bytes(9_000)),
    ],
)
def test_payloads_of_another_layout_are_not_proven(broken, content, tmp_path):
    payload(tmp_path / "page_0.dat")
    (tmp_path / broken).unlink()
    if content is not None:
        (tmp_path / broken).write_bytes(content)
    found = looked(tmp_path / "page_0.dat")
    assert found.decoder == "index"
    assert found.doubts


def test_row_numbers_are_no_ids_and_a_dictionary_is_told_where_no_row_has_the_value(tmp_path):
    person = PersonScan(IdPatterns([Name("12", "id", vague=True)]), rows={tmp_path: 1})
    pq.write_table(pa.table({"user_id": ["0", "12", "x"]}), tmp_path / "users.parquet")
    pq.write_table(pa.table({"user": pa.array([0, 1, 12], pa.int32())}), tmp_path / "interactions.parquet")
    log, users = person.scan([tmp_path])
    assert [(one.what, one.where) for one in log.findings] == [(ROW, ["user, row 1"])]
    assert [(one.times, one.where) for one in users.findings] == [(1, ["user_id, row 1"])]
    dictionary(tmp_path / "d.parquet")
    assert [(one.times, one.where) for one in looked(tmp_path / "d.parquet").findings] == [(1, ["brand, dictionary"])]


def test_what_breaks_a_decoder_does_not_end_the_scan(tmp_path):
    (tmp_path / "a.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]" + WHO.encode())
    (tmp_path / "b.sqlite").write_bytes(b"SQLite format 3\0")
    (tmp_path / "c.txt").write_text(WHO)
    states = [one.state for one in scan([tmp_path], PERSON.patterns)]
    assert states == ["found", "not proven", "found"]


def test_nothing_is_missed_where_two_blocks_meet_or_a_hole_ends(tmp_path):
    for at in range(BLOCK - 40, BLOCK + 4, 3):
        path = tmp_path / "a.log"
        path.write_bytes(b"." * at + WHO.encode() + b"." * 100)
        found = looked(path)
        assert [(one.what, one.times, one.where) for one in found.findings] == [("id", 1, [f"byte {at:,}"])]
    with (tmp_path / "b.unknown").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(48 << 20)
        file.write(np.array(ROWS, "<i8").tobytes())
    assert looked(tmp_path / "b.unknown").findings[0].where == [f"byte {48 << 20:,}"]


def test_an_id_inside_of_another_word_is_not_theirs(tmp_path):
    patterns = IdPatterns([Name("u050", "id", longer=("u0500", "xu050"))])
    (tmp_path / "a.txt").write_text("u0500 xu050 u050x")
    (tmp_path / "b.sqlite-wal").write_bytes(b"\0\1u0500\2\3xu050\0")
    (tmp_path / "c.sqlite-wal").write_bytes(b"\0\1u050view\2\3\0")
    (tmp_path / "d.parquet").touch()
    assert [one.state for one in scan([tmp_path], patterns)] == ["clean", "clean", "found", "clean"]


def test_a_short_id_counts_where_people_stand_and_is_a_doubt_elsewhere(tmp_path):
    assert is_vague("12")
    assert is_vague("123456")
    assert not is_vague("u012")
    patterns = IdPatterns([Name("12", "id", vague=True)])
    pq.write_table(pa.table({"user_id": pa.array([11, 12]), "n": [12, 12]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"item_id": ["12"]}), tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text('{"user_id": 12, "k": 12}')
    (tmp_path / "d.json").write_text('{"k": 12, "said": "112"}')
    (tmp_path / "e.html").write_text("<b>12</b>")
    found = scan([tmp_path], patterns)
    assert [one.state for one in found] == ["found", "not proven", "found", "clean", "not proven"]


def test_stretches_that_others_have_or_any_table_holds_are_none():
    items = np.array([5, 9, 2, 7, 1, *[5, 9, 2, 7], *[0, 1, 2, 3], *[4, 4, 8, 4], 6, 3, 9, 1])
    offsets = np.array([0, 5, 9, 13, 17, len(items)])
    own, shared = own_stretches(items, offsets, 0)
    assert own.tolist() == [[9, 2, 7, 1]]
    assert shared.tolist() == [[5, 9, 2, 7]]
    for row, expected in ((2, []), (3, []), (4, [[6, 3, 9, 1]])):  # counting up, two values only, a history of its own
        assert own_stretches(items, offsets, row)[0].tolist() == expected
    assert list(stretches(np.zeros(16, np.float32))) == []


def test_two_names_of_one_file_are_both_told(tmp_path):
    (tmp_path / "a.txt").write_text(WHO)
    (tmp_path / "b.txt").hardlink_to(tmp_path / "a.txt")
    assert [one.state for one in scan([tmp_path], PERSON.patterns)] == ["found", "found"]


def test_a_file_that_may_not_be_read_is_not_proven(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("nothing")
    real = Path.open

    def refused(path, *arguments, **named):
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refused)
    (found,) = scan([tmp_path / "a.txt"], PERSON.patterns)
    assert found.state == "not proven"
    assert found.doubts == ["it cannot be read: Permission denied"]
