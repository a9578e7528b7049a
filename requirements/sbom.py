"""Write a bill of materials (CycloneDX, JSON) of all that molar runs on in this environment; `make sbom` runs this."""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from licences import runtime
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Everything that is installed, what is there for development too."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--output-reproducible"]
    command += [
        "--spec-version=1.6",
        f"--pyproject={ROOT / 'pyproject.toml'}",
        "--of=JSON",
        "--output-file=-",
        sys.executable,
    ]
    made: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return made


def materials() -> dict[str, Any]:
    """The environment without what only development needs."""
    bom, kept = environment(), runtime("molar-retrieval", sys.path)
    bom["components"] = [one for one in bom["components"] if canonicalize_name(one["name"]) in kept]
    bom["metadata"]["component"]["version"] = version("molar-retrieval")
    refs = {bom["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bom["components"])}
    bom["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in refs]}
        for one in bom["dependencies"]
        if one["ref"] in refs
    ]
    if len(bom["components"]) != len(kept):
        raise SystemExit(f"{len(bom['components'])} components of {len(kept)} packages")
    return bom


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    bom = materials()
    text = json.dumps(bom, indent=2, ensure_ascii=False)
    if error := make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"the bill of materials does not fulfil the schema of CycloneDX 1.6: {error}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", "utf-8")
    print(f"{file}: {len(bom['components'])} components")


if __name__ == "__main__":
    main()
