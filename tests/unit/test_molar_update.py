"""`molar update` does what is due and nothing else, and says so."""

import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from qdrant_fake import fake_qdrant
from typer.testing import CliRunner
from updates import Days

import molar
from molar.due import due
from molar.updating import KIND
from molar_cli.app import app
from molar_indexes.generations import carried, open_generation
from molar_retrieval.errors import DataError, MissingArtefactError
from molar_retrieval.models import drift as drifting
from molar_retrieval.models import incremental
from molar_retrieval.models.als import open_log
from molar_retrieval.models.drift import Drift, Level
from molar_retrieval.models.store import open_model
from molar_retrieval.models.vectors import encode_users
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, MolarSettings, UpdateSettings


@pytest.fixture
def days(trained, tmp_path):
    return Days(trained, tmp_path)


def outcomes(report):
    return {step.name: step.outcome for step in report.steps if step.outcome}


def versions(days):
    kinds = ("catalogue", "content", "interactions", "alignment", "generations")
    return {kind: days.workspace[kind].pointer for kind in kinds}


def answer(days, user):
    return [(item.item_id, item.score) for item in days.shop.query(user, k=10).items]


def test_nothing_new(days):
    before = versions(days)
    report = days.shop.update()
    assert report.up_to_date
    assert not outcomes(report)
    assert not report.later
    assert report.generation == before["generations"]
    assert versions(days) == before
    assert report.summary.startswith("up to date: nothing new in catalogue and log")


def test_prices(days):
    answers = {user: answer(days, user) for user in ("u0001", "u0002", "u0003")}
    before = versions(days)
    days.items(lambda table: table.assign(price=table["price"].where(table.index != 4, 1.25)))
    tried = days.shop.update(dry_run=True)
    assert tried.dry_run
    assert not tried.up_to_date
    assert tried.expected is None
    assert versions(days) == before
    report = days.shop.update()
    assert outcomes(report)["catalogue"] == outcomes(tried)["catalogue"] == "values, photos or settings of items"
    assert "vectors" not in outcomes(report)
    assert not report.facts["alignment"]["recounted"]
    with open_generation(days.workspace) as generation:
        assert generation.index.fetch([4])[0].payload["price"] == 1.25
        assert generation.name == report.generation
    for user, former in answers.items():
        assert [item for item, _ in answer(days, user)] == [item for item, _ in former]
    assert days.shop.update().up_to_date


def test_what_an_update_takes_is_told_by_the_last_one_of_such_changes(days, monkeypatch):
    settings = days.folder.parent / "molar.toml"
    settings.write_text(settings.read_text("utf-8") + '\n[costs]\nmachine_hour = 36\ncurrency = "EUR"\n', "utf-8")
    shop = molar.Shop(days.folder, days.shop.workspace, settings)
    run = CliRunner()
    command = ["update", "--dry-run", "-w", str(shop.workspace), "--settings", str(settings)]

    def prices(value):
        days.items(lambda table: table.assign(price=table["price"].where(table.index != 4, value)))

    prices(2.25)
    assert "what that takes is not known" in run.invoke(app, command).output
    shop.update()
    last = work_done(days.workspace)[0]
    assert set(last.steps) == {"catalogue", "alignment", "generation"}
    assert shop.update(dry_run=True).expected is None  # up to date
    prices(2.5)
    expected = shop.update(dry_run=True).expected
    assert (expected.seconds, expected.processor, expected.currency) == (last.seconds, last.processor, "EUR")
    assert expected.money == pytest.approx(last.seconds / 100)
    told = run.invoke(app, command).output
    assert f"about {expected.words}, as the last update took" in told
    days.buy(("u0001", shop.query("u0001", k=1).items[0].item_id))
    assert shop.update(dry_run=True).expected is None  # so far no update has found prices and interactions
    shop.update()
    days.buy(("u0002", shop.query("u0002", k=1).items[0].item_id))
    prices(2.75)
    assert shop.update(dry_run=True).expected.seconds == work_done(days.workspace)[0].seconds
    monkeypatch.setattr("molar_retrieval.models.drift.new_share", lambda facts, log: 0.5)
    assert shop.update(dry_run=True).expected is None  # the towers would be trained on


def test_a_generation_waits_beside_what_is_live_until_it_is_made_so(days):
    live, before = days.workspace["generations"].pointer, answer(days, "u0001")
    days.buy(("u0001", days.shop.query("u0001", k=1).items[0].item_id))
    report = days.shop.update(stage=True)
    assert (report.generation, report.up_to_date) == (live, False)
    assert report.staged is not None
    assert days.workspace["generations"].pointer == live
    assert answer(days, "u0001") == before
    again = days.shop.update(stage=True)
    assert (again.staged, again.up_to_date, outcomes(again)) == (report.staged, True, {})
    assert [one.name for one in days.shop.generations() if not one.live][-1] == report.staged
    found = days.shop.diff(live, report.staged, users=20)
    assert (found.before, found.lists.changed > 0) == (live, True)
    days.shop.rollback(report.staged)
    assert answer(days, "u0001") != before
    last = days.shop.update()
    assert (last.generation, last.staged, last.up_to_date) == (report.staged, None, True)


def test_settings_may_say_that_nothing_goes_live_by_itself(days):
    settings = days.folder.parent / "molar.toml"
    settings.write_text(settings.read_text("utf-8") + "\n[index]\nactivate = false\nkeep = 0\n", "utf-8")
    shop = molar.Shop(days.folder, days.shop.workspace, settings)
    live = days.workspace["generations"].pointer
    staged = shop.update().staged  # keep, too, is of a generation
    assert staged is not None
    done = shop.align()
    assert (done.generation, done.staged) == (staged, True)
    assert {one.name for one in shop.generations()} == {live, staged}


_WITHOUT_TORCH = """
import sys
from pathlib import Path
import molar
print(molar.Shop(Path(sys.argv[1]), Path(sys.argv[2])).update().summary)
assert "torch" not in sys.modules
"""


def test_prices_need_no_torch(days):
    for price in (1.25, 1.5):
        days.items(lambda table, price=price: table.assign(price=table["price"].where(table.index != 4, price)))
        command = [sys.executable, "-c", _WITHOUT_TORCH if price == 1.5 else _WITHOUT_TORCH.split("assert")[0]]
        done = subprocess.run([*command, days.folder, days.shop.workspace], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "values, photos or settings of items" in done.stdout


def test_a_day(days):
    wanted = days.shop.query("u0001", k=1).items[0].item_id
    days.items(lambda table: pd.concat([table, table.iloc[[5]].assign(item_id="new-1", title="Garden gnome")]))
    days.buy(("u0001", wanted), ("u0002", "new-1"), ("newbody", wanted))
    report = days.shop.update()
    done = outcomes(report)
    assert done["catalogue"].endswith(" items (+1)")
    assert done["vectors"] == "1 item encoded"
    assert done["interactions"] == "+3 interactions, +1 user"
    assert done["alignment"] == "item-item models counted again, without training"
    assert report.generation in done["generation"]
    assert wanted not in dict(answer(days, "u0001"))
    assert len(answer(days, "newbody")) == 10
    assert len(days.shop.similar("new-1", k=3).items) == 3
    assert {step["name"] for step in report.to_dict()["steps"]} == {*done}
    assert days.shop.update().up_to_date
    nothing, work = work_done(days.workspace)[:2]
    assert nothing.outcome.startswith("up to date")
    assert (work.what, work.state, work.outcome, work.generation) == (
        "update",
        "done",
        report.summary,
        report.generation,
    )
    assert work.steps == {step.name: step.seconds for step in report.steps}


def test_without_an_alignment(days, tmp_path):
    fresh = Workspace.for_catalogue(tmp_path / "fresh", days.folder)
    with pytest.raises(MissingArtefactError, match="no alignment"):
        type(days.shop)(days.folder, fresh.root).update()


@pytest.mark.parametrize("held", [KIND, "alignment"])
def test_one_at_a_time(days, held):
    before = versions(days)
    days.buy(("u0001", "SKU-0001"))
    with days.workspace.lock(held), pytest.raises(DataError, match="another process") as told:
        days.shop.update()
    assert "run again" in told.value.hint
    assert versions(days) == before


def test_another_encoder_in_the_settings_stays_for_later(days):
    file = days.folder.parent / "molar.toml"
    file.write_text(file.read_text() + '\n[embed]\nmodel = "builtin-multilingual"\n')
    made = days.workspace["content"].require()[1].settings["encoder"]
    days.items(lambda table: table.assign(title=table["title"].where(table.index != 4, "Garden gnome")))
    report = days.shop.update()
    assert outcomes(report)["vectors"] == "1 item encoded"
    assert days.workspace["content"].require()[1].settings["encoder"] == made
    assert ["names the encoder builtin-multilingual" in one.why for one in report.later] == [True]
    assert report.later[0].command == "molar embed, then molar align"


def test_what_is_due(days):
    alignment = days.workspace["alignment"].require()[1]
    trained = datetime.fromisoformat(alignment.facts["derived"]["trained_at"])
    plain = MolarSettings()
    assert not due(alignment, plain, now=trained)
    old = due(alignment, plain, now=trained + timedelta(days=91))
    assert [one.why for one in old] == ["the last training was 91 days ago, more than 90"]
    never = plain.model_copy(update={"update": UpdateSettings(max_age_days=None)})
    assert not due(alignment, never, now=trained + timedelta(days=900))
    same = plain.model_copy(update={"align": AlignSettings(epochs=3, threads=2, max_history=None)})
    assert not due(alignment, same, now=trained)
    other = plain.model_copy(update={"align": AlignSettings(epochs=7, cold_start_share=0.2)})
    assert [one.why for one in due(alignment, other, now=trained)] == [
        "settings have changed since training: [align] cold_start_share is 0.2, it was auto,"
        " [align] epochs is 7, it was 3"
    ]


def fallen(share):
    """A drift by this share."""
    level = Level(0.2, 0.15, 0.25)
    return Drift(level, level, Level(share, share - 0.05, share + 0.05))


def test_what_came_is_foretold_before_it_is_learned(days):
    wanted = [days.shop.query(user, k=1).items[0].item_id for user in ("u0001", "u0002")]
    days.buy(("u0001", wanted[0]), ("u0002", wanted[1]), ("newbody", wanted[0]))
    days.shop.update()
    (record,) = days.workspace["alignment"].require()[1].facts["derived"]["predicted_hits"]
    assert sum(record["hits"]) == 2, "nothing is foretold for a newcomer"
    assert sum(record["hits"][:2]) == 2
    days.items(lambda table: table.assign(price=1.0))
    assert "drift" not in days.shop.update().facts, "two cases tell nothing"
    assert days.workspace["alignment"].require()[1].facts["derived"]["predicted_hits"] == [record]


@pytest.mark.parametrize(("share", "limit", "onwards"), [(0.3, "0.2", True), (0.1, "0.2", False), (0.3, "0.4", False)])
def test_where_people_drift_the_towers_are_trained_on(days, monkeypatch, share, limit, onwards):
    monkeypatch.setattr(drifting, "drift", lambda records: fallen(share))
    monkeypatch.setenv("MOLAR_UPDATE_DRIFT", limit)
    days.shop = molar.Shop(days.folder, days.shop.workspace)
    days.buy(("u0001", days.shop.query("u0001", k=1).items[0].item_id))
    report = days.shop.update()
    assert report.facts["drift"]["fall"]["mean"] == share
    assert ("towers" in outcomes(report)) == onwards
    manifest = days.workspace["alignment"].require()[1]
    assert ("warm" in manifest.facts) == onwards
    if onwards:
        assert "30%" in outcomes(report)["towers"]
        told = [later.why for later in report.later]
        assert any("drifted" in why for why in told) == (not manifest.facts["warm"]["better"])
    assert days.shop.query("u0001", k=3).items


def test_towers_are_trained_on_where_enough_has_come_though_a_run_was_killed(days, monkeypatch):
    monkeypatch.setenv("MOLAR_UPDATE_RETRAIN_THRESHOLD", "0.00001")
    days.shop = molar.Shop(days.folder, days.shop.workspace)
    wanted, before = days.shop.query("u0001", k=1).items[0].item_id, answer(days, "u0001")
    days.buy(("u0001", wanted), ("u0002", wanted), ("u0003", wanted))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(incremental, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            days.shop.update()
    assert answer(days, "u0001") == before, "nothing was published"
    report = days.shop.update()
    assert "are new to the towers" in outcomes(report)["towers"]
    assert not any("drifted" in later.why for later in report.later), "what was not better was not asked for by drift"
    assert wanted not in dict(answer(days, "u0001"))
    assert days.shop.update().up_to_date
    days.items(lambda table: table.assign(price=1.0))
    assert "towers" not in outcomes(days.shop.update()), "nothing has come since"


def test_users_of_whom_nothing_has_changed_keep_their_vectors(days, monkeypatch):
    encoded = []
    file = days.folder.parent / "molar.toml"
    file.write_text(file.read_text() + "\n[exploration]\nexplore = false\n")

    def watched(network, log, rows, **more):
        encoded.extend(log.users.ids(rows))
        return encode_users(network, log, rows, **more)

    monkeypatch.setattr("molar_retrieval.models.ensemble.encode_users", watched)
    taken = days.shop.query("u0003", k=3).items[0].item_id
    days.buy(("u0001", taken), ("u0002", taken))
    days.items(lambda table: table[::-1])
    days.shop.update()
    assert {"u0001", "u0002"} <= set(encoded)
    with open_generation(days.workspace) as generation:
        model = open_model(carried(generation.folder))
        log = open_log(days.workspace)
        assert len(encoded) < log.n_users / 2
        whole = model.users(log, np.arange(log.n_users))
        for row, vector in enumerate(whole.dense):
            record = generation.users.keyed(log.users.id(row))
            assert np.allclose(record.vector, vector, atol=1e-4)
            assert np.array_equal(record.history, log.history(row))
            assert np.array_equal(record.sparse.indices, np.sort(whole.sparse[row].indices))


def test_a_server_gets_what_it_has_not(days, monkeypatch):
    monkeypatch.setenv("MOLAR_INDEX_TIMEOUT", "30")  # cores may be busy
    with fake_qdrant() as server:
        first = days.shop.update(index=server.url)
        assert first.up_to_date
        assert "points sent to" in outcomes(first)["server"], "the generation was published without a server"
        assert not outcomes(days.shop.update(index=server.url))
