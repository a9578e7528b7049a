"""HTML pages that need no other file and may do nothing but show themselves; photos are small data URIs in them.

What slips in from data is neither run nor loaded nor sent: all is escaped, and a Content-Security-Policy names the
page's own style sheet and script by their hashes.
"""

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from molar_retrieval.data.images import ImageError, open_image
from molar_retrieval.reports import charts, wording

SIZE = (112, 150)  # Pixels of a small photo, at most


def marked(text: str) -> Markup:
    """Words in which what stands between two backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    shown = [Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)]
    return Markup("").join(shown)


_FILTERS: dict[str, Callable[..., Any]] = {
    "count": wording.count,
    "duration": wording.duration,
    "flat": wording.flat,
    "fraction": wording.fraction,
    "marked": marked,
    "metric": wording.metric,
    "number": wording.number,
    "share": lambda value: wording.NONE if value is None else wording.percent(value, 1),
}


def render_page(
    package: str, template: str, *, style: str | None = None, script: str | None = None, **shown: Any
) -> str:
    """Set a page; the same values give the same page, and what is shown is escaped unless it is ``Markup``.

    The ``template`` extends ``base.html.jinja``; ``style`` comes behind the common style sheet; ``script`` is the only
    one. They lie in the folder ``templates`` of the package or of this one.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("molar_retrieval.reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(key=charts.key, plural=wording.plural)

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


def photo_uri(folder: Path, photo: str, size: tuple[int, int] = SIZE, quality: int = 72) -> str | None:
    """The :func:`small_copy` of a photo as a data URI; None where it cannot be read."""
    copy = small_copy(folder, photo, size, quality)
    return None if copy is None else "data:image/jpeg;base64," + base64.b64encode(copy).decode("ascii")


def small_copy(folder: Path, photo: str, size: tuple[int, int] = SIZE, quality: int = 72) -> bytes | None:
    """A small copy of a photo, of ``size`` pixels at most, as JPEG; None where it cannot be read."""
    try:
        image = open_image(folder, photo)
    except ImageError:
        return None
    image.thumbnail(size)
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


class Pictures:
    """Small versions of a catalogue's photos, each made once."""

    def __init__(self, catalogue: Path) -> None:
        self._made = cache(lambda photo: photo_uri(catalogue, photo))

    def uri(self, photo: str | None) -> str | None:
        """A data URI; None where there is no photo, or none that can be read."""
        return None if photo is None else self._made(photo)
