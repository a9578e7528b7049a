"""Ids and rows: the one hash table against a dictionary, ids that fall together, ids that come twice."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval import ids as id_table
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import fingerprint

WORDS = st.text("ab\0é𝄞", max_size=20)


@settings(deadline=None, max_examples=200)
@given(st.lists(WORDS, unique=True, max_size=40), st.lists(st.none() | WORDS, max_size=40))
def test_rows_are_those_of_a_dictionary(ids, asked):
    known, expected = IdMap(ids), {one: row for row, one in enumerate(ids)}
    wanted = [expected.get(one, -1) for one in asked]
    for form in (asked, pa.array(asked, pa.string()), pa.chunked_array([asked[:7], asked[7:]], pa.large_string())):
        assert known.rows(form).tolist() == wanted
    assert known.rows(pa.array(asked, pa.string()).slice(3)).tolist() == wanted[3:]
    assert known.rows(pa.array([*asked, "a"], pa.string()).dictionary_encode()).tolist()[:-1] == wanted
    assert [known.row(one) for one in asked if one is not None] == [expected.get(o) for o in asked if o is not None]
    assert all(one in known for one in ids)
    assert known.digest == fingerprint.of_bytes(one.encode() for one in ids)


def test_many_ids_in_a_part_of_a_larger_array():
    count = 3 * id_table._BLOCK // 2
    ids = pa.array([f"{number:x}" + "!" * (number % 20) for number in range(count)]).cast(pa.large_string())
    known = IdMap(ids.slice(5, count - 9))
    asked = np.random.default_rng(0).permutation(count)
    inside = (asked >= 5) & (asked < count - 4)
    assert np.array_equal(known.rows(ids.take(pa.array(asked))), np.where(inside, asked - 5, -1))
    assert known.rows(ids).dtype == np.int32


def test_ids_that_fall_together_are_hashed_anew(monkeypatch):
    hashes, seeds = id_table._hashes, []

    def weak(ids, seed):
        seeds.append(seed)
        return hashes(ids, seed) % np.uint64(3) if len(set(seeds)) < 3 else hashes(ids, seed)

    monkeypatch.setattr(id_table, "_hashes", weak)
    ids = [f"id {number}" for number in range(50)]
    assert IdMap(ids).rows([*reversed(ids), "id 50"]).tolist() == [*reversed(range(50)), -1]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize("many", [0, 1000])
def test_an_id_that_comes_twice_is_named(many):
    ids = [f"{number}" for number in range(many)]
    with pytest.raises(DataError, match="the id 'twice' occurs more than once"):
        IdMap(["twice", *ids, "twice"])
    with pytest.raises(DataError, match="an id is missing"):
        IdMap(pa.array([*ids, None], pa.string()))


def test_numbered():
    assert IdMap.numbered(12) == IdMap([str(number) for number in range(12)])
    assert IdMap.numbered(12).rows(["11", "12"]).tolist() == [11, -1]
    assert len(IdMap.numbered(0)) == len(IdMap([])) == 0
    assert IdMap([]).rows(["a"]).tolist() == [-1]
