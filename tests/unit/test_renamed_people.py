"""What people are called shapes no model: with other names for all of them, everything stays but the names."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from updates import Days

import molar
from molar_eval.splits import leave_one_out
from molar_indexes.generations import TABLE, USERS, open_generation
from molar_indexes.verify import verify
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.models import snapshot
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.pinned import pin

STAY = ("catalogue", "interactions", "content", "als", "alignment")


def other(name):
    return f"customer-{int(name[1:]) * 7919 % 100_003:06d}"


@pytest.fixture
def days(trained, tmp_path):
    return Days(trained, tmp_path)


def with_names(log):
    return replace(log, users=IdMap([f"p{n}" for n in range(log.n_users)]))


def lists(shop, names):
    return [[(one.item_id, one.score) for one in shop.query(name, k=10, explore=False).items] for name in names]


def made(days):
    """What each kind of artefact is, and as which version of its kind it was made."""
    found = {kind: days.workspace[kind].require()[1] for kind in STAY}
    return {kind: (one.fingerprint, one.number) for kind, one in found.items()}


def test_everything_stays_but_the_names(days, monkeypatch):
    with (days.folder.parent / "molar.toml").open("a") as settings:
        settings.write('\n[index]\nsegments = ["segment"]\n')
    days.shop = molar.Shop(days.folder, days.shop.workspace)
    days.shop.update()
    names = open_log(days.workspace).users.ids(range(8))
    before, stays, answers = days.workspace["generations"].require()[0], made(days), lists(days.shop, names)
    with open_generation(days.workspace) as generation:
        attributes = dict(generation.users.get(names[0]).attributes)
    monkeypatch.setattr("molar_indexes.rebuild.publish_anew", None)
    days.rename(other)
    done = days.shop.update()
    assert [step.outcome for step in done.steps if step.name == "interactions"] == ["other names of people"]
    live = days.workspace["generations"].require()[0]
    assert live != before
    assert (live / TABLE).samefile(before / TABLE)
    assert made(days) == stays
    assert lists(days.shop, map(other, names)) == answers
    log = open_log(days.workspace)
    assert log.users.ids(range(8)) == [*map(other, names)]
    assert snapshot.kept_log(days.workspace["alignment"].require()[0]).users == log.users
    assert [artefacts.check_inventory(days.workspace[kind].require()[0], digests=True) for kind in STAY] == [[]] * len(
        STAY
    )
    with open_generation(days.workspace) as generation:
        assert verify(generation, days.workspace, deep=True) == []
        assert generation.users.get(names[0]) is None
        assert generation.users.get(other(names[0])).attributes == attributes
    assert names[0].encode() not in (live / USERS).read_bytes()
    assert days.shop.update().up_to_date
    days.rename(lambda name: name + "x")
    assert days.shop.align().report.up_to_date
    assert made(days) == stays
    assert lists(days.shop, [other(name) + "x" for name in names]) == answers


def test_a_command_that_read_other_names_publishes_nothing(days):
    with pin(days.workspace, "interactions", work="molar align") as read:
        days.rename(other)
        days.prepare()
        with pytest.raises(StaleArtefactError, match="the interactions was made anew"):
            read.confirm()


def test_an_evaluation_goes_on_from_what_it_has(days, tmp_path):
    log = open_log(days.workspace)
    one, other_names = leave_one_out(log), leave_one_out(with_names(log))
    assert one.fingerprint == other_names.fingerprint != leave_one_out(log.select(log.item != log.item[0])).fingerprint
    folder = one.save(tmp_path)
    written = (folder / "history.parquet").stat().st_mtime_ns
    assert one.save(tmp_path) == folder
    assert (folder / "history.parquet").stat().st_mtime_ns == written
    assert other_names.save(tmp_path) == folder
    for path in folder.glob("*.parquet"):
        assert {*pq.read_table(path)["user_id"].to_pylist()} <= {*other_names.history.users.array.to_pylist()}


def test_a_log_that_is_written_again_with_other_names_is_the_same_version(days):
    log = open_log(days.workspace)
    one, two = write_log(days.workspace, log, {}), write_log(days.workspace, with_names(log), {})
    assert one.fingerprint == two.fingerprint
    assert one.facts["people"] != two.facts["people"]
    assert open_log(days.workspace).users == with_names(log).users
