"""What a page may do: nothing but show itself, so that nothing that slips in from data is run, loaded or sent."""

import base64
import hashlib

from jinja2 import Environment, PackageLoader
from markupsafe import Markup


def source(environment: Environment, package: str, name: str) -> Markup:
    """A style sheet or a script beside a package's templates, as it is."""
    return Markup(PackageLoader(package).get_source(environment, name)[0])


def policy(style: str, script: str | None = None) -> str:
    """A Content-Security-Policy under which nothing is loaded, and only this style sheet and this script count.

    Args:
        style: The text of the page's only ``<style>``, exactly.
        script: Of its only ``<script>``; None: it has none.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {_hash(style)}"]
    if script is not None:
        rules.append(f"script-src {_hash(script)}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
