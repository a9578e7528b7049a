"""Ids survive every format, whatever characters they have; rows never shift."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.workspace.artefacts import Workspace

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
AWKWARD = [
    "007",
    "7",
    "7.0",
    " 7",
    "7 ",
    "a/b",
    "../x",
    "NA",
    "null",
    "nan",
    "None",
    "true",
    "1e5",
    "👩‍🚀",
    "é",
    "e\u0301",
]
AWKWARD += ['"', ",", "a\nb", "a\r\nb", "'", "\\", "\x00x", "\ufeffy", "#", "id,title", "z" * 500, "-1", "+1", "0x10"]


def _write(path, columns, suffix):
    if suffix == "parquet":
        pq.write_table(pa.table({n: pa.array(v, pa.string()) for n, v in columns.items()}), f"{path}.parquet")
        return
    rows = list(zip(*columns.values(), strict=True))
    if suffix == "jsonl":
        lines = [
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)
        ]
        with open(f"{path}.jsonl", "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            file.write("\n".join(lines))
        return
    with open(f"{path}.csv", "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(items=st.lists(IDS, unique=True, min_size=1, max_size=12), users=st.lists(IDS, min_size=1, max_size=12))
@example(items=AWKWARD, users=AWKWARD)
def test_ids_survive(tmp_path_factory, suffix, items, users):
    folder = tmp_path_factory.mktemp("shop")
    _write(folder / "items", {"item_id": items, "title": [f"t{i}" for i in range(len(items))]}, suffix)
    taken = [items[i % len(items)] for i in range(len(users))]
    _write(folder / "interactions", {"user_id": users, "item_id": taken}, suffix)
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    assert catalogue.ids.array.to_pylist() == items
    titles = [row["title"] for batch in catalogue.batches(["title"], 5) for row in batch.to_pylist()]
    assert titles == [f"t{i}" for i in range(len(items))]
    log = Interactions.open(workspace["interactions"].require()[0], catalogue.ids)
    assert log.users.array.to_pylist() == list(dict.fromkeys(users))
    for user in set(users):
        history = log.items.ids(log.history(log.users.row(user)))
        assert history == [item for u, item in zip(users, taken, strict=True) if u == user]


ROWS = st.lists(
    st.tuples(st.sampled_from([None, "", " ", "a", "b", "c", "d", "e", "f"]), st.text(max_size=3)), max_size=30
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, batch=st.integers(1, 9))
def test_bad_rows_shift_nothing(tmp_path_factory, rows, batch):
    folder = tmp_path_factory.mktemp("shop")
    rows = [*rows, ("last", "title")]
    columns = {
        "item_id": [i for i, _ in rows],
        "title": [f"<{t}>" for _, t in rows],
        "n": list(range(1, len(rows) + 1)),
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molar_retrieval.data.prepare.BATCH", batch)
        prepare_catalogue(folder, workspace)
    version = workspace["catalogue"].require()[0]
    kept = pq.read_table(version / "items.parquet").to_pylist()
    expected = {}
    for number, (item_id, _) in enumerate(rows, 1):
        if item_id and item_id.strip() and item_id not in expected:
            expected[item_id] = number
    assert {row["item_id"]: row["n"] for row in kept} == expected
    rejected = pq.read_table(version / "rejects.parquet")["row"].to_pylist()
    assert sorted([*rejected, *expected.values()]) == list(range(1, len(rows) + 1))
