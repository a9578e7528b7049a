"""Write docs/report.md from the models of report.json; `make docs` runs this, a test checks that it was run."""

import re
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("report.md")
HEAD = """# report.json

Written by `make docs` from `molar_eval.report.schema`.

`molar evaluate` leaves three files in the folder of a run:

| file | what |
|---|---|
| `report.json` | all numbers and settings; no line of the data that it was made from |
| `examples.json` | a few users with titles and photos; stays with the data |
| `report.html` | both as one page that needs no other file; it shows the examples, so it stays with the data |

Numbers of a metric are fractions, times are seconds. A metric's name ends in its cutoff: `ndcg@10`. Intervals have a
nominal coverage of 95 %. A reader refuses a `format` that it does not know; within a format, fields keep their meaning.

```python
from pathlib import Path
from molar_eval.report.page import read_report

report = read_report(Path("run/report.json"))
for split in report.splits:
    for model in split.models:
        print(split.name, model.name, model.metrics[split.primary].mean)
```
"""


def render() -> str:
    """The reference: each part with its fields."""
    from molar_eval.report.schema import Report, ReportExamples

    parts = [HEAD]
    for model, file in ((Report, "report.json"), (ReportExamples, "examples.json")):
        schema = model.model_json_schema()
        definitions = {model.__name__: schema, **schema.get("$defs", {})}
        parts += [_section(name, definitions[name], file) for name in _order(model.__name__, definitions)]
    return "\n".join(parts)


def _order(root: str, definitions: dict[str, Any]) -> list[str]:
    """The parts as they are met, reading from the root."""
    names = [root]
    for name in names:
        met = re.findall(r"#/\$defs/(\w+)", str(definitions[name]["properties"]))
        names += [part for part in dict.fromkeys(met) if part not in names]
    return names


def _section(name: str, definition: dict[str, Any], file: str) -> str:
    needed = definition.get("required", [])
    text = f"The whole of `{file}`." if name in ("Report", "ReportExamples") else definition["description"]
    rows = [
        f"| `{field}` | {_type(part)} | {_sentence(part, optional=field not in needed)} |"
        for field, part in definition["properties"].items()
    ]
    return f"## {name}\n\n{text}\n\n| field | type | what |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _type(part: dict[str, Any]) -> str:
    """A JSON type in words; parts link to their section."""
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in part:
        return " or ".join(_type(each) for each in part["anyOf"])
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    if part.get("type") == "array":
        return f"list of {_type(part['items'])}"
    if part.get("type") == "object":
        values = part.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) else "object"
    return str(part.get("type", "any"))


def _sentence(part: dict[str, Any], *, optional: bool) -> str:
    said = part.get("description", "").replace("None", "null")
    default = part.get("default")
    known = f"default {default}" if default not in (None, "", [], {}) else ""
    return "; ".join(text for text in (said, known or ("may be left out" if optional else "")) if text)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
