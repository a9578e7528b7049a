"""What `molar check` finds in a log is what preparing it leaves out, whatever is wrong with which row."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.data.schema import read_spec
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.quality.findings import FindingCollector
from molar_retrieval.quality.interactions import check_log
from molar_retrieval.workspace.artefacts import Workspace

START, LATE = 1_700_000_000, 9_000_000_000
REASONS = {
    "missing user id": "log.missing_user",
    "missing item id": "log.missing_item",
    "missing time": "log.missing_time",
    "unparsable time": "log.bad_time",
    "time is before 1990": "log.zero_time",
    "time is in the future": "log.future_time",
    "position is not a number": "log.bad_position",
    "weight is not a positive number": "log.bad_weight",
    "weight is not between 1e-9 and 1e9": "log.bad_weight",
}
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w", *"uv" * 4, "", None]),
        st.sampled_from([*"ab" * 6, "x", " a", "", None]),
        st.sampled_from([START, START + 1, START + 2, START + 90_000, 0, -5, START // 1000, LATE, 10**17, None]).map(
            lambda time: None if time is None else str(time)
        )
        | st.sampled_from([*[f"2026-01-0{day}" for day in range(1, 9)], "soon", "1970-01-20", "2999-12-31"]),
        st.sampled_from([None, 1.0, 1.0, 2.0, float("nan"), float("inf")]),
        st.sampled_from([None, 1.0, 1.0, 0.0, -1.0, float("inf"), 1e-30, 1e12]),
    ),
    min_size=1,
    max_size=40,
)
NAMES = ("user_id", "item_id", "timestamp", "position", "weight")
TYPES = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.float64())


@settings(deadline=None, max_examples=150)
@given(ROWS)
def test_findings_are_what_preparing_rejects(rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shop"
        folder.mkdir()
        pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["a", "b"]}), folder / "items.parquet")
        columns = zip(zip(*rows, strict=True), TYPES, strict=True)
        pq.write_table(pa.table([pa.array(v, t) for v, t in columns], NAMES), folder / "interactions.parquet")
        found = FindingCollector(examples=1000, limit=1000)
        summary = check_log(folder, read_spec(folder), IdMap(["a", "b"]), found)
        workspace = Workspace.for_catalogue(Path(name) / "work", folder)
        prepare_catalogue(folder, workspace)
        try:
            facts = prepare_interactions(folder, workspace).facts
        except DataError:
            assert summary is None
            return
        assert summary is not None
        assert (summary.interactions, summary.users, summary.items) == tuple(
            facts[name] for name in ("interactions", "users", "items")
        )
        assert found.counts["log.duplicate"] == facts["duplicates"]
        rejects = pq.read_table(workspace["interactions"].require()[0] / "rejects.parquet").to_pylist()
    left_out = {row["row"]: row["reason"].partition(": ")[0] for row in rejects}
    assert len(left_out) == len(rejects) == facts["rejects"]
    unknown = {row for row, reason in left_out.items() if reason == "unknown item"}
    told = {f.row: kind for kind in set(REASONS.values()) for f in found.examples(kind)}
    assert set(told) <= set(left_out)
    assert {row: kind for row, kind in told.items() if row not in unknown} == {
        row: REASONS[reason] for row, reason in left_out.items() if row not in unknown
    }
    assert sum(f.amount for f in found.examples("log.unknown_item")) == len(unknown - set(told))
