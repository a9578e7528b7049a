"""Write the settings of `molar serve` into docs/serving.md; `make docs` runs this, a test checks that it was run."""

import re
from pathlib import Path

TARGET = Path(__file__).with_name("serving.md")
_PLACE = re.compile(r"(<!-- settings: .*?-->\n).*?(<!-- /settings -->)", re.DOTALL)


def render() -> str:
    """The document with its settings."""
    from molar_retrieval.workspace.settings import ServeSettings

    rows = ["| `[serve]` | default | |", "|---|---|---|"]
    for name, field in ServeSettings.model_fields.items():
        default = "" if field.default is None else f"`{str(field.default).lower()}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    table = "\n".join(rows)
    return _PLACE.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", TARGET.read_text("utf-8"))


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
