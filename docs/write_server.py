"""Write the sizes into docs/server.md; `make docs` runs this, a test checks that it was run."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

TARGET = Path(__file__).with_name("server.md")
SHAPE = Path(__file__).with_name("server_shape.json")
_PLACE = re.compile(r"(<!-- sizes: .*?-->\n).*?(<!-- /sizes -->)", re.DOTALL)


def render() -> str:
    """The document with its sizes."""
    from molar_indexes.server.sizing import PER_ITEM, SLACK, TOTALS, ItemFootprint, per_item, totals

    shape = ItemFootprint(**json.loads(SHAPE.read_text("utf-8")))
    parts = [
        "Bytes of one item of the demo shop, whose encoder is `builtin`:\n",
        _table(PER_ITEM, per_item(shape)),
        f"\nA whole collection, one copy, {SLACK:g} times the sum of these, as Qdrant advises to plan for ids, payload"
        " indexes\nand segments that are being rebuilt:\n",
        _table(TOTALS, totals(shape)),
    ]
    return _PLACE.sub(lambda found: found[1] + "\n" + "\n".join(parts) + "\n" + found[2], TARGET.read_text("utf-8"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [column.lstrip(">") for column in columns]
    rule = ["---:" if column.startswith(">") else "---" for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
