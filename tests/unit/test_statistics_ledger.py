"""The ledger of privacy: what it counts, when it refuses, and that nothing is released before it is counted."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from molar_retrieval.errors import DataError, SettingsError, StaleArtefactError
from molar_retrieval.privacy.ledger import YEAR, PrivacyLedger
from molar_retrieval.privacy.mechanism import composed, epsilon_left, epsilon_of, noise_multiplier
from molar_retrieval.workspace.settings import PrivacySettings

DELTA = 1e-6
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOUR = PrivacySettings(epsilon=4, yearly_epsilon=8)


def spend(ledger, settings, *rest):
    return ledger.spend(settings, noise_multiplier(settings.epsilon, settings.delta), *rest)


def test_noise_that_is_too_little_is_never_entered(tmp_path):
    with pytest.raises(ValueError, match="too little"):
        PrivacyLedger(tmp_path).spend(FOUR, 1.0, "log", "molar align")
    assert PrivacyLedger(tmp_path).entries() == ()


def test_composition_is_that_of_privacy_loss_distributions():
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    multipliers = [noise_multiplier(2, DELTA)] * 3 + [noise_multiplier(1, DELTA)] * 2
    accountant = PLDAccountant()
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(multipliers[0]), 3))
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(multipliers[-1]), 2))
    together = epsilon_of(multipliers, DELTA)
    assert together == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    assert together < 0.7 * (3 * 2 + 2 * 1)


@pytest.mark.parametrize("delta", [1e-12, 1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.1, 0.3, 1, 2, 3, 4, 6, 8, 16, 30, 50, 75, 100])
def test_accounting_equals_that_of_dp_accounting(epsilon, delta):
    from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian

    sigma = get_sigma_gaussian(epsilon, delta)
    assert noise_multiplier(epsilon, delta) == pytest.approx(sigma, rel=2e-9)
    assert noise_multiplier(epsilon, delta) > sigma
    assert epsilon_of([sigma], delta) == pytest.approx(get_epsilon_gaussian(sigma, delta), rel=1e-9)


def test_accounting_is_its_own_inverse():
    assert epsilon_of([noise_multiplier(4, DELTA)], DELTA) == pytest.approx(4, rel=1e-6)
    assert noise_multiplier(4, DELTA) == pytest.approx(1.19, abs=0.01)
    spent = [noise_multiplier(3, DELTA), noise_multiplier(2, DELTA)]
    left = epsilon_left(spent, 8, DELTA)
    assert epsilon_of([*spent, noise_multiplier(left, DELTA)], DELTA) == pytest.approx(8, rel=1e-6)
    assert epsilon_left([noise_multiplier(8, DELTA)], 8, DELTA) == pytest.approx(0, abs=1e-3)
    assert (epsilon_of([], DELTA), composed([])) == (0, float("inf"))
    assert epsilon_of([12**0.5 * noise_multiplier(8, DELTA)] * 12, DELTA) == pytest.approx(8, rel=1e-6)


def test_the_budget_refuses_and_says_when_and_how_much_is_possible(tmp_path):
    ledger = PrivacyLedger(tmp_path)
    days = 0
    while True:
        try:
            spend(ledger, FOUR, "log", "molar align", NOW + timedelta(days=days))
        except DataError as error:
            refusal = error
            break
        days += 1
    entries = ledger.entries()
    assert len(entries) == days > 1
    assert epsilon_of([entries[0].noise_multiplier] * (days + 1), DELTA) > 8
    assert ledger.standing(FOUR, NOW + timedelta(days=days)).spent <= 8
    assert f"{NOW + YEAR:%Y-%m-%d %H:%M} UTC" in refusal.hint
    assert f"took ε = {epsilon_of([one.noise_multiplier for one in entries], DELTA):.2f}" in refusal.message
    with pytest.raises(DataError):
        spend(ledger, FOUR, "log", "molar align", NOW + YEAR - timedelta(seconds=1))
    assert ledger.entries() == entries
    less = float(refusal.hint.split("ε ≤ ")[1].split()[0])
    spend(ledger, PrivacySettings(epsilon=less), "log", "molar align", NOW + timedelta(days=days))
    spend(ledger, FOUR, "log", "molar align", NOW + YEAR)
    standing = ledger.standing(FOUR, NOW + YEAR)
    assert standing.spent <= 8 < standing.ever


def test_entries_of_a_clock_that_was_ahead_count_and_give_nothing_away(tmp_path):
    ledger = PrivacyLedger(tmp_path)
    spend(ledger, FOUR, "log", "molar align", NOW)
    spend(ledger, FOUR, "log", "molar align", NOW + 3 * YEAR)
    assert ledger.standing(FOUR, NOW).spent == pytest.approx(epsilon_of([noise_multiplier(4, DELTA)] * 2, DELTA))


def test_more_than_a_year_bears_is_a_wrong_setting(tmp_path):
    with pytest.raises(SettingsError, match="yearly_epsilon = 8"):
        PrivacyLedger(tmp_path).check(PrivacySettings(epsilon=9))


@pytest.mark.parametrize("damage", ["{}", '{"name": "x"', "no json", ""])
def test_a_damaged_ledger_is_refused(tmp_path, damage):
    ledger = PrivacyLedger(tmp_path)
    spend(ledger, FOUR, "log", "molar align", NOW)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    ledger.path.write_text(damage + "\n" + ledger.path.read_text("utf-8"), "utf-8")
    for asked in (ledger.entries, lambda: ledger.standing(FOUR), lambda: spend(ledger, FOUR, "log", "molar align")):
        with pytest.raises(StaleArtefactError, match="damaged"):
            asked()


def test_a_ledger_that_cannot_be_written_refuses(tmp_path, monkeypatch):
    ledger = PrivacyLedger(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("molar_retrieval.workspace.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        spend(ledger, FOUR, "log", "molar align", NOW)
    assert ledger.entries() == ()


def test_the_standing_is_plain_data(tmp_path):
    ledger = PrivacyLedger(tmp_path)
    entry = spend(ledger, FOUR, "log", "molar align", NOW)
    told = json.loads(json.dumps(ledger.standing(FOUR, NOW).to_dict()))
    assert told["entries"][0]["name"] == entry.name
    assert told["free_from"] == (NOW + YEAR).isoformat()
    assert not ledger.standing(FOUR, NOW).nearly_spent
    assert ledger.standing(FOUR.model_copy(update={"yearly_epsilon": 4.2}), NOW).nearly_spent


def test_the_command_and_the_doctor_tell_what_is_spent(tmp_path):
    import molar
    from molar.doctor.privacy import privacy
    from molar_retrieval.workspace.artefacts import Workspace

    shop = molar.Shop(tmp_path / "shop", tmp_path / ".molar")
    (tmp_path / "shop").mkdir()
    Workspace.for_catalogue(shop.workspace, tmp_path / "shop")
    assert (shop.privacy.ledger().entries, list(privacy(shop.workspace))) == ((), [])
    spend(PrivacyLedger(shop.workspace), PrivacySettings(epsilon=7.9), "log", "molar align")
    assert shop.privacy.ledger().spent == pytest.approx(7.9)
    (entry,) = privacy(shop.workspace)
    assert "nearly spent: ε = 7.90 of 8" in entry.problem
    PrivacyLedger(shop.workspace).path.write_text("{}\n", "utf-8")
    (entry,) = privacy(shop.workspace)
    assert "damaged" in entry.problem
