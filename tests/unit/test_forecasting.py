"""What aligning would take is told beforehand, writes nothing, and comes with a price where there is one."""

import json
import shutil

import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from typer.testing import CliRunner

import molar
from molar.bill import Bill
from molar.forecasting import onwards
from molar_cli.app import app
from molar_eval.suite import load
from molar_eval.trial_costs import TrialCosts
from molar_retrieval.workspace.resources import Took
from molar_retrieval.workspace.settings import CostSettings


@pytest.mark.parametrize("power", [0.3, 0.5, 0.8, 1.0])
def test_what_grows_with_a_power_of_the_log_goes_on_so(power):
    def takes(size: float) -> float:
        return 3 + 2 * size**power

    assert onwards([takes(size) for size in (0.25, 0.5, 1)], 40) == pytest.approx(takes(40))


def test_what_grows_faster_than_the_log_or_not_at_all_is_kept_within_bounds():
    assert onwards([1, 2, 6], 3) == pytest.approx(6 + 4 * 2 / 0.5)
    assert onwards([2, 2, 2], 100) == 2
    assert onwards([2, 1, 3], 2) == pytest.approx(3 + 2 * 1 / 0.5)


def test_a_bill_names_what_the_settings_price():
    took = Took(1800, 3000)
    assert Bill.of(took, CostSettings()).words == "30 min, 50 min of the processors"
    priced = Bill.of(took, CostSettings(machine_hour=0.4, watts=150, currency="EUR"))
    assert (priced.money, priced.watt_hours) == (0.2, 75)
    assert priced.words == "30 min, 50 min of the processors, 75 Wh, 0.2 EUR"


def test_a_dry_run_tells_a_time_and_leaves_the_workspace_as_it_is(trained, tmp_path):
    settings = tmp_path / "molar.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
    settings.write_text("\n".join(["[costs]", "machine_hour = 36", 'currency = "EUR"', "[align]", *lines]))
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}
    shop = molar.Shop(trained.shop, workspace, settings)
    told = shop.align_forecast()
    assert {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()} == before
    epochs = told.epochs * (told.epoch or 0)
    assert epochs > 0
    assert told.bill.seconds == pytest.approx(told.reading + told.counting + epochs, abs=0.1)
    assert told.bill.money == pytest.approx(told.bill.seconds / 100, abs=1e-3)
    assert "0." in told.lines()[0]
    assert "EUR" in told.lines()[0]
    counted = shop.align_forecast(preset="instant")
    assert (counted.epoch, counted.epochs) == (None, 0)


def test_a_dry_run_of_something_else_than_is_there_is_refused(trained):
    told = ["align", "--dry-run", "--where", "category = Shoes", "--workspace", str(trained.workspace)]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 2
    assert "--dry-run predicts a run on what the workspace has" in done.output


SUITE = """description = "quick"
models = ["popularity", "EASE"]
resamples = 100
examples = 0
[[splits]]
split = "temporal"
[[splits]]
split = "leave-one-out"
models = ["popularity"]
"""


def test_an_evaluation_is_foretold_from_former_ones_and_what_is_kept_costs_nothing(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    (tmp_path / "molar.toml").write_text("[costs]\nmachine_hour = 36\n")
    (tmp_path / "suite.toml").write_text(SUITE)
    shop, suite = molar.Shop(trained.shop, workspace, tmp_path / "molar.toml"), str(tmp_path / "suite.toml")
    new = shop.evaluation_forecast(suite)
    assert [one.state for one in new.trials] == ["unknown"] * 3
    assert (new.whole, new.rest, new.bill.seconds) == (False, None, 0)
    shop.evaluate(suite, models=["popularity"])
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}
    told = ["evaluate", "--dry-run", "--suite", suite, "-w", str(workspace)]
    done = CliRunner().invoke(app, [*told, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    states = {(one["split"], one["model"]): one["state"] for one in found["trials"]}
    kept = {("temporal", "popularity"): "kept", ("leave-one-out", "popularity"): "kept"}
    assert states == kept | {("temporal", "EASE"): "unknown"}
    assert not found["whole"]
    assert "nothing of it is known" in CliRunner().invoke(app, told).stdout
    assert {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()} == before
    whole = shop.evaluation_forecast(suite, models=["popularity"])
    assert whole.whole
    assert whole.bill.seconds == pytest.approx(whole.rest.took.seconds, abs=0.01)
    assert whole.bill.money == pytest.approx(whole.bill.seconds / 100, abs=1e-3)
    shutil.rmtree(workspace / "evaluation/trials")
    again = shop.evaluation_forecast(suite, models=["popularity"])
    assert [one.state for one in again.trials] == ["foretold"] * 2
    assert again.whole
    foretold = sum(one.expected.took.seconds for one in again.trials)
    assert foretold > 0
    assert again.bill.seconds == pytest.approx(again.rest.took.seconds + foretold, abs=0.01)


def test_a_dry_run_of_another_evaluation_than_of_what_is_there_is_refused(trained):
    told = ["evaluate", "--dry-run", "--where", "category = Shoes", "--workspace", str(trained.workspace)]
    assert CliRunner().invoke(app, told).exit_code == 2


def test_what_was_taken_tells_of_as_many_interactions_on_the_same_machine(tmp_path, monkeypatch):
    suite = load("quick", {})
    TrialCosts(tmp_path).note_rest(suite, 1000, Took(10, 20))
    known = TrialCosts(tmp_path)
    assert known.rest(suite, 1440).took == Took(pytest.approx(12), pytest.approx(24))
    assert known.rest(suite, 700).interactions == 1000
    assert known.rest(suite, 1600) is None
    assert known.rest(suite, 600) is None
    assert known.rest(suite.model_copy(update={"seeds": 3}), 1000) is None
    known.note_rest(suite, 1000, Took(30, 30))
    assert (known.foretold, known.unknown) == (Took(10, 20), 0)
    assert TrialCosts(tmp_path).rest(suite, 1000).took == Took(30, 30)
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    assert TrialCosts(tmp_path).rest(suite, 1000) is None
