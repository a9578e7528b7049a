"""Check the licences of all that molar runs on against licences.toml; `make licences` runs this.

Checked are the installed packages that the distribution requires, directly or not, without its extras. Everything that
a package states counts: License-Expression, License and classifiers. A licence that is unknown or not stated fails.
"""

import argparse
import re
import sys
import tomllib
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SPDX = get_spdx_licensing()


def runtime(package: str, path: list[str]) -> dict[str, Distribution]:
    """The installed distributions that a package requires, by name."""
    installed = MetadataPathFinder.find_distributions(DistributionFinder.Context(path=path))
    by_name = {canonicalize_name(one.metadata["Name"]): one for one in reversed(list(installed))}
    found: dict[str, set[str]] = {}
    waiting: list[tuple[str, set[str]]] = [(canonicalize_name(package), set())]
    while waiting:
        name, extras = waiting.pop()
        if name in found and extras <= found[name]:
            continue
        if name not in by_name:
            raise SystemExit(f"{name} is required and not installed: `make install`")
        found[name] = found.get(name, set()) | extras
        for asked in map(Requirement, by_name[name].requires or []):
            if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in ("", *found[name])):
                waiting.append((canonicalize_name(asked.name), asked.extras))
    return {name: by_name[name] for name in sorted(found) if name != canonicalize_name(package)}


def stated(distribution: Distribution, names: dict[str, str]) -> list[str]:
    """What a package says of its licence, each as an SPDX expression where that is known."""
    fields = distribution.metadata
    classifiers = [
        one.rpartition(" :: ")[2] for one in fields.get_all("Classifier", []) if one.startswith("License ::")
    ]
    said = [fields.get("License-Expression", ""), fields.get("License", ""), *classifiers]
    said = [one.strip() for one in said if one.strip().upper() not in ("", "UNKNOWN", "OSI APPROVED")]
    if any("\n" not in one for one in said):
        said = [one for one in said if "\n" not in one]  # the text of a licence that is named elsewhere
    return list(dict.fromkeys(names.get(one, one) for one in said))


def allows(expression: Any, allowed: set[str]) -> bool:
    """Whether an expression can be fulfilled by allowed licences alone."""
    if isinstance(expression, SPDX.OR):
        return any(allows(one, allowed) for one in expression.args)
    if isinstance(expression, SPDX.AND):
        return all(allows(one, allowed) for one in expression.args)
    return expression.render() in allowed


def problems(package: str, path: list[str], rules: dict[str, Any]) -> list[str]:
    """Packages whose licence is neither allowed nor an exception, and exceptions that nothing needs."""
    found, used = [], set()
    for name, distribution in runtime(package, path).items():
        said = stated(distribution, rules["names"])
        try:
            fine = bool(said) and all(allows(SPDX.parse(one, validate=True), set(rules["allowed"])) for one in said)
        except ExpressionError:
            fine = False
        text = " and ".join(said) or "nothing"
        if not fine and rules["exceptions"].get(name, {}).get("states") != text:
            found.append(f"{name} {distribution.version} states {re.sub(r'[^ -~]+', ' ', text)[:200]!r} as its licence")
        elif not fine:
            used.add(name)
    return found + [f"the exception for {one} is not needed" for one in rules["exceptions"] if one not in used]


def main() -> None:
    """Check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="molar-retrieval")
    parser.add_argument("--path", action="append", help="where packages lie, instead of this environment")
    parser.add_argument("--rules", type=Path, default=Path(__file__).with_name("licences.toml"))
    given = parser.parse_args()
    rules = tomllib.loads(given.rules.read_text("utf-8"))
    if found := problems(given.package, given.path or sys.path, rules):
        sys.exit("\n".join([*found, f"allow it in {given.rules.name} with a reason, or do without the package"]))
    print(f"the licences of {len(runtime(given.package, given.path or sys.path))} packages are allowed")


if __name__ == "__main__":
    main()
