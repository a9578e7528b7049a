"""HTML pages that need no other file and may do nothing but show themselves.

What slips in from data is neither run nor loaded nor sent: all is escaped, and a Content-Security-Policy names the
page's own style sheet and script by their hashes.
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from molar_retrieval.pages import svg, words


def marked(text: str) -> Markup:
    """Words in which what stands between two backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    shown = [Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)]
    return Markup("").join(shown)


_FILTERS: dict[str, Callable[..., Any]] = {
    "count": words.count,
    "duration": words.duration,
    "flat": words.flat,
    "fraction": words.fraction,
    "marked": marked,
    "metric": words.metric,
    "number": words.number,
    "share": lambda value: words.NONE if value is None else words.percent(value, 1),
}


def render_page(
    package: str, template: str, *, style: str | None = None, script: str | None = None, **shown: Any
) -> str:
    """Set a page; the same values give the same page, and what is shown is escaped unless it is ``Markup``.

    The ``template`` extends ``base.html.jinja``; ``style`` comes behind the common style sheet; ``script`` is the only
    one. They lie in the folder ``templates`` of the package or of this one.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("molar_retrieval.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(key=svg.key, plural=words.plural)

    def source(name: str) -> Markup:
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    sheet = Markup("\n").join([source("style.css"), *([source(style)] if style else [])])
    program = source(script) if script else None
    page = environment.get_template(template)
    return page.render(style=sheet, script=program, policy=_policy(sheet, program), **shown)


def _policy(style: str, script: str | None) -> str:
    """A Content-Security-Policy under which nothing is loaded, and only this style sheet and this script count."""
    rules = ["default-src 'none'", "img-src data:", f"style-src {_hash(style)}"]
    if script is not None:
        rules.append(f"script-src {_hash(script)}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
