"""Draw docs/days.svg: fourteen days of a small demo shop, as `molar demo --days 14` has them; it takes some minutes.

python docs/write_days.py
"""

import json
import sys
import tempfile
from pathlib import Path

import molar
from molar.days import picture

TARGET = Path(__file__).with_name("days.svg")


def main() -> None:
    """Live through the days, draw them, and print their figures."""
    with tempfile.TemporaryDirectory() as folder:
        made = molar.demo(Path(folder) / "shop", items=150, users=300, session_start=True)
        made.shop.embed()
        made.shop.align(preset="instant")
        report = made.live(14)
    TARGET.write_text(picture(report) + "\n", "utf-8")
    sys.stdout.write(json.dumps(report.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
