"""The attacks of `tests/attacks` at full strength, and the table of docs/security.md.

    python bench/attacks.py [--write] [PYTEST ARGUMENTS]

Each test there is one attack; the first line of its docstring is the promise. In CI they run in seconds; here
MOLAR_TEST_ATTACKS=full repeats races, kills and fuzzed input as often as the promise says. --write puts the outcome
where `docs/write_security.py` finds it; of attacks that were not selected (`-k`) the earlier outcome stays.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from molar_retrieval import __version__

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "eval" / "results" / "attacks" / "outcome.json"


def attack(arguments: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the attacks.

    Returns:
        pytest's exit code, and a record for each attack.
    """
    with tempfile.TemporaryDirectory() as place:
        outcome = Path(place) / "outcome.xml"
        command = [sys.executable, "-m", "pytest", "tests/attacks", f"--junitxml={outcome}", *arguments]
        code = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "MOLAR_TEST_ATTACKS": "full"}, check=False
        ).returncode
        return code, [described(case) for case in ElementTree.parse(outcome).iter("testcase")]


def described(case: ElementTree.Element) -> dict[str, Any]:
    """One attack: what it attacks, the promise, whether it held and what was measured."""
    known = {p.get("name"): p.get("value") for p in case.iter("property")}
    failed = any(case.find(tag) is not None for tag in ("failure", "error"))
    outcome = "failed" if failed else "skipped" if case.find("skipped") is not None else "held"
    return {
        "room": known.get("room", ""),
        "promise": known.get("promise", ""),
        "case": case.get("name", ""),
        "outcome": outcome,
        "measured": known.get("measured", ""),
        "seconds": round(float(case.get("time", 0)), 1),
    }


def main() -> int:
    """Attack, print the table, and keep it if wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options, others = parser.parse_known_args()
    code, found = attack(others)
    for line in found:
        print(f"{line['outcome']:8} {line['seconds']:7.1f} s  {line['promise']}  {line['measured']}")
    if options.write:
        facts = {"molar": __version__, "cores": os.cpu_count(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        kept = [*earlier(), *found] if others else found
        known = {(line["room"], line["promise"], line["case"]): line for line in kept}
        text = json.dumps(facts | {"attacks": list(known.values())}, indent=1, ensure_ascii=False)
        RESULTS.write_text(text + "\n", "utf-8")
    return code


def earlier() -> list[dict[str, Any]]:
    """What the results hold."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8"))["attacks"] if RESULTS.exists() else []
    return found


if __name__ == "__main__":
    sys.exit(main())
