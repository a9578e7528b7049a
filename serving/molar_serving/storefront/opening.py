"""`molar demo --serve`: the server, the page and the visitors of a demo shop, in one process."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx

from molar.sources import Demo
from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.traffic import DAY, TrafficSimulator
from molar_retrieval.errors import SettingsError
from molar_serving.access import Keyring
from molar_serving.logs import log_warnings
from molar_serving.run import bound, prepare
from molar_serving.server import answer
from molar_serving.storefront.feed import Feed
from molar_serving.storefront.pages import Storefront
from molar_serving.storefront.visitors import Visitors, cast

HOST = "127.0.0.1"
_PATIENCE = 10.0  # seconds that a visitor waits for an answer
_VISITS = 2_000  # at most


def open_shop(
    demo: Demo,
    listening: Callable[[str], None],
    ready: Callable[[str], None],
    *,
    minutes: float = 10,
    port: int = 0,
    seed: int = 7,
) -> None:
    """Open a demo shop, which must be aligned, to this machine's browser, until the process is told to end.

    Args:
        demo: The shop.
        listening: Called with the page's address once it listens.
        ready: Called with it once lists are answered, by another thread.
        minutes: How long the visitors stay.
        port: The port; 0: any that is free.
        seed: Another seed makes other visits.

    Raises:
        SettingsError: If the shop has keys, as its page has none, or the port is taken.
    """
    if Keyring(demo.shop.opened().root).keys():
        raise SettingsError("the page of the demo shop asks without a key, and there are keys", "`molar keys revoke`")
    prepare()
    log_warnings(demo.shop.workspace)
    plan, feed = plan_shop(demo.facts.seed, items=demo.facts.items, users=demo.facts.users), Feed()
    people, now = cast(plan), time.time()
    page = Storefront(demo.facts.folder, plan, people, feed, now + 60 * minutes)
    settings = demo.shop.settings
    plain = settings.serve.model_copy(update={"certificate": None, "private_key": None})
    settings = settings.model_copy(update={"serve": plain})
    with bound(HOST, port) as sock:
        address = f"http://{HOST}:{sock.getsockname()[1]}"
        listening(address)
        with httpx.Client(base_url=address, timeout=_PATIENCE, trust_env=False) as client:
            visitors = Visitors(client, TrafficSimulator(plan, int(now) // DAY * DAY, 1, seed), people, feed, seed=seed)

            def visit() -> None:
                with suppress(httpx.TransportError):  # the server has ended
                    if visitors.until_ready():
                        ready(address)
                        visitors.run(60 * minutes, _VISITS)

            thread = threading.Thread(target=visit, name="visitors", daemon=True)
            thread.start()
            try:
                answer(demo.shop, settings, sock, (signal.SIGTERM, signal.SIGINT), page.routes)
            finally:
                visitors.stop()
                thread.join(_PATIENCE)
