"""Write the options of a query into docs/python.md; `make docs` runs this, a test checks that it was run."""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

TARGET = Path(__file__).with_name("python.md")
_PLACE = re.compile(r"(<!-- options: .*?-->\n).*?(<!-- /options -->)", re.DOTALL)


def render() -> str:
    """The document with its options."""
    from molar_retrieval.ranking.query import ITEM_OPTIONS, SEARCH_OPTIONS, Query, options_of

    rows = ["| option | type | default | | also in |", "|---|---|---|---|---|"]
    for name, one in options_of(Query).items():
        also = ["searches"] * (name in SEARCH_OPTIONS) + ["similar items"] * (name in ITEM_OPTIONS)
        also += ["arms"] * bool(one.extra.get("arm"))
        default = "" if one.default in (None, ()) else f"`{str(one.default).lower()}`"
        rows.append(f"| `{name}` | {_type(one)} | {default} | {one.description} | {', '.join(also)} |")
    table = "\n".join(rows)
    return _PLACE.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", TARGET.read_text("utf-8"))


def _type(option: Any) -> str:
    if get_origin(option.kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(option.kind))
    if get_origin(option.kind) is tuple:
        return f"list, at most {option.most:,}"
    names = {bool: "true or false", int: "number", float: "number", str: "text"}
    between = f", {option.least:,} to {option.most:,}" if option.least is not None else ""
    return f"{names.get(option.kind, 'time, with zone')}{between}"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
