"""``kill -9`` while events are appended and compacted: a few times here, a hundred in the attacks."""

from pathlib import Path

from event_kills import survive


def test_a_few_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    acknowledged, found = survive(tmp_path, 6)
    assert 0 < acknowledged <= found
