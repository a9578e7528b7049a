"""Write the table of attacks into docs/security.md; `make docs` runs this, a test checks that it was run."""

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "eval" / "results" / "attacks" / "outcome.json"
TARGET = Path(__file__).with_name("security.md")
_PLACE = re.compile(r"(<!-- attacks -->\n).*?(<!-- /attacks -->)", re.DOTALL)


def render() -> str:
    """The document with the outcome of the attacks."""
    run = json.loads(RESULTS.read_text("utf-8"))
    head = (
        f"Last run at full strength on {run['date']}, molar {run['molar']}, {run['cores']} cores:"
        f" {len(run['attacks'])} attacks, {sum(a['seconds'] for a in run['attacks']) / 60:.0f} minutes.\n"
    )
    rooms = groupby(sorted(run["attacks"], key=lambda a: a["room"]), key=lambda a: a["room"])
    text = "\n".join([head, *(_room(room, list(attacks)) for room, attacks in rooms)])
    return _PLACE.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", TARGET.read_text("utf-8"))


def _room(name: str, attacks: list[dict[str, Any]]) -> str:
    rows = ["| promise | tried | outcome | measured |", "|---|---:|---|---|"]
    for promise, cases in groupby(attacks, key=lambda a: a["promise"]):
        found = list(cases)
        outcomes = ", ".join(sorted({a["outcome"] for a in found}))
        measured = "; ".join(dict.fromkeys(a["measured"] for a in found if a["measured"]))
        rows.append(f"| {_cell(promise)} | {len(found)} | {outcomes} | {_cell(measured)} |")
    return f"### {name}\n\n" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
