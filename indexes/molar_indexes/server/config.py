"""Which server is asked, and how; without the key, which only the environment knows. Imports nothing of it."""

import os
import re
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import IndexSettings

KEY = "QDRANT_API_KEY"
"""The environment variable that holds the key."""
LEAST = (1, 16)
"""Major and minor version of the oldest server that has all that is asked of it."""
KEY_HOSTS = "QDRANT_URL"
"""The environment variable that may name the servers that the key is for: addresses, separated by commas."""
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServerConfig:
    """A Qdrant server as it is asked for one shop: by a URL without a login, ``timeout`` in seconds for each request.

    Several addresses, separated by commas in ``url``, are those of nodes of one cluster. The alias ``collection`` names
    what is live; ``grpc_port`` is 0 where it is to be asked by REST, None where that is found out; ``fallback`` answers
    where it does not.
    """

    url: str
    collection: str = "molar"
    grpc_port: int | None = None
    timeout: float = 2.0
    fallback: Literal["none", "local"] = "none"
    users: Literal["local", "server"] = "local"
    key_over_http: bool = False

    @classmethod
    def of(cls, settings: IndexSettings) -> Self | None:
        """The server that settings name, or None; see :attr:`key` for what it raises."""
        if settings.url is None:
            return None
        found = cls(
            settings.url,
            settings.collection,
            settings.grpc_port,
            settings.timeout,
            settings.fallback,
            settings.users,
            settings.key_over_http,
        )
        for node in found.nodes:
            _ = node.key
        return found

    @property
    def key(self) -> str | None:
        """The key of the environment, where it is for this server; None: none is sent.

        A key is bound to hosts: where ``QDRANT_URL`` names some, it is for these alone, else for those that the
        command line, the environment or the user configuration names as the index, which are all that are ever asked.

        Raises:
            SettingsError: If it would travel unencrypted over a network, and nobody said that it may.
        """
        found, bound = key(), os.environ.get(KEY_HOSTS, "").strip()
        addresses = [urlsplit(node.url) for node in self.nodes]
        if found is None or (bound and not {_place(one) for one in addresses} <= _places(bound)):
            return None
        exposed = [one for one in addresses if _is_exposed(one)]
        if exposed and not self.key_over_http:
            raise SettingsError(
                f"{KEY} would travel unencrypted to {exposed[0].hostname}: {self.name} is asked by http://",
                "use https://; in a private network allow it with MOLAR_INDEX_KEY_OVER_HTTP=true",
            )
        return found

    @property
    def people(self) -> str:
        """The alias of the users that are live."""
        return f"{self.collection}.users"

    @property
    def aliases(self) -> tuple[str, str]:
        """Those of items and users."""
        return self.collection, self.people

    @property
    def name(self) -> str:
        """How messages call it."""
        addresses = self.url.split(",")
        return f"the Qdrant {'server' if len(addresses) == 1 else 'cluster'} at {', '.join(addresses)}"

    @property
    def nodes(self) -> tuple["ServerConfig", ...]:
        """One for each address. Of several, each may take half of a request's time, which leaves some for another."""
        addresses = self.url.split(",")
        if len(addresses) == 1:
            return (self,)
        return tuple(replace(self, url=address, timeout=self.timeout / 2) for address in addresses)

    @property
    def exposes_the_key(self) -> bool:
        """Whether a key would travel unencrypted over a network, to any of the addresses."""
        return any(_is_exposed(urlsplit(node.url)) and node.key is not None for node in self.nodes)

    def patient(self, seconds: float) -> "ServerConfig":
        """The same with at least so much time for each request."""
        return replace(self, timeout=max(self.timeout, seconds))


def _is_exposed(address: SplitResult) -> bool:
    return address.scheme == "http" and address.hostname not in _THIS_MACHINE


def _place(address: SplitResult) -> tuple[str, str | None]:
    return address.scheme, address.hostname


def _places(addresses: str) -> set[tuple[str, str | None]]:
    """Schemes and hosts of ``QDRANT_URL``."""
    return {_place(urlsplit(one.strip())) for one in addresses.split(",")}


def key() -> str | None:
    """The key, if the environment has one; white space around it, as mounted secrets have, does not count.

    Raises :class:`SettingsError` if it cannot be one.
    """
    found = os.environ.get(KEY, "").strip()
    if not all(" " <= character <= "~" for character in found):
        raise SettingsError(
            f"the key in the environment variable {KEY} is malformed: it holds {_named(found)}, and only printable"
            " ASCII can be sent",
            "set it to the key alone, without line breaks, typographic quotes or a byte order mark",
        )
    return found or None


def _named(found: str) -> str:
    """What a malformed key holds, without a character of it."""
    return "a line break" if any(character in found for character in "\r\n") else "characters that no key has"


def go_together(client: str, server: str) -> bool:
    """Whether a server has all that is asked of it: from :data:`LEAST` on, of the client's major version.

    Qdrant itself promises no more than one minor version between the two. What is asked is older than :data:`LEAST`,
    but for the condition ``contains``.
    """
    versions = [re.match(r"(\d+)\.(\d+)", version) for version in (client, server)]
    if any(found is None for found in versions):
        return True
    (major, _), (other_major, other_minor) = ((int(v[1]), int(v[2])) for v in versions if v is not None)
    return major == other_major and (other_major, other_minor) >= LEAST


def apart(client: str, server: str) -> str:
    """Why two versions do not go together."""
    least = ".".join(map(str, LEAST))
    asked = f"from {least} on and below {LEAST[0] + 1} is what is spoken here"
    return f"version {server} does not go together with qdrant-client {client}: {asked}"
