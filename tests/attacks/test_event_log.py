"""The event log."""

from event_kills import survive


def test_kills_of_appends_and_compactions(tmp_path, rounds, measured):
    """An acknowledged event is in the log once, whatever is killed."""
    kills = rounds(4, 100)
    acknowledged, _ = survive(tmp_path, kills)
    assert acknowledged > 0
    measured(f"{kills} kills, {acknowledged:,} acknowledged events: none lost, none doubled")
