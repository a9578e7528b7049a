"""Chromium as Playwright drives it, for tests of the studio; what a page complains of or asks of elsewhere is kept."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import installed
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SERIOUS = ("serious", "critical")
_MILLISECONDS = 15_000.0  # that something may take which is waited for


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test, saying so, where there is none."""
    found = installed()
    if found is None:
        pytest.skip("there is no Chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


_SETTLED = (
    "document.readyState === 'complete' && !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')"
)


class Reader:
    """Somebody with the studio open.

    Attributes:
        page: What they see.
        complaints: What pages threw, logged as an error, or were refused by their policy.
        elsewhere: Addresses outside of the server that a page asked for.
        patience: Seconds after which a page must have come to rest.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        *,
        width: int = 1280,
        dark: bool = False,
        language: str = "en-GB",
        cookies: Sequence[Any] = (),
    ) -> None:
        self.address = address
        self.context: BrowserContext = browser.new_context(
            base_url=address,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale=language,
        )
        self.context.set_default_timeout(_MILLISECONDS)
        self.context.add_cookies([*cookies])
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.patience = _MILLISECONDS / 1000
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def go(self, path: str) -> Page:
        """Open a page, and wait until what it loads by itself is there."""
        self.page.goto(path, wait_until="load")
        return self.settled()

    def settled(self) -> Page:
        """The page, once htmx has nothing under way."""
        end = time.monotonic() + self.patience
        while not self.page.evaluate(_SETTLED):  # Playwright's own waiting evaluates text, which the policy forbids
            assert time.monotonic() < end, "the page never comes to rest"
            self.page.wait_for_timeout(30)
        return self.page

    def click(self, name: str, within: str = "main", *, role: Any = "button") -> Page:
        """Click the first button of this name, or link, within a part of the page; the page, once it is at rest."""
        self.page.locator(within).first.get_by_role(role, name=name).first.click()
        return self.settled()

    def texts(self, selector: str) -> list[str]:
        """What each of these says."""
        return [" ".join(one.split()) for one in self.page.locator(selector).all_inner_texts()]

    def values(self, selector: str, attribute: str) -> list[str]:
        """An attribute of each of these."""
        return [str(one.get_attribute(attribute)) for one in self.page.locator(selector).all()]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def barriers(self) -> list[str]:
        """What keeps somebody from using the page: serious and critical findings of axe-core."""
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]

    def picture(self, path: Path) -> None:
        """Write what is seen."""
        self.page.screenshot(path=path)

    def close(self) -> None:
        """Leave."""
        self.context.close()

    def _logged(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.elsewhere.append(request.url)
