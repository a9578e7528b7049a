"""A Qdrant server: whether it can be reached, and whether its version goes with the client's."""

import json
import re
from importlib import metadata
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from molar_cli.doctor.findings import Entry, Section, State
from molar_retrieval.config import MolarSettings

TIMEOUT = 3.0


def server_of(settings: MolarSettings) -> str | None:
    """The address of the server that the settings name; the backends of today are folders and have none."""
    return settings.index.model_dump().get("url")


def server(url: str) -> Section:
    """Ask a server who it is; without any key, so it is told of no collection."""
    return Section("server", "Qdrant server", (_asked(url),))


def _asked(url: str) -> Entry:
    try:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError("the address does not begin with http:// or https://")
        with urlopen(Request(url, headers={"Accept": "application/json"}), timeout=TIMEOUT) as answer:
            said = json.loads(answer.read(65_536))
        version = str(said["version"])
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        problem = f"the Qdrant server at {url} does not answer as one: {reason}"
        return Entry("address", url, State.BROKEN, problem, "start it, or correct its address in molar.toml")
    client = metadata.version("qdrant-client")
    value = f"{url}, version {version}, client {client}"
    data = {"url": url, "version": version, "client": client}
    if not go_together(client, version):
        problem = f"qdrant-client {client} and the server's version {version} are more than one minor version apart"
        return Entry("address", value, State.WARNING, problem, "update the older of the two", data)
    return Entry("address", value, data=data)


def go_together(client: str, server: str) -> bool:
    """Whether Qdrant promises that two versions understand each other: one minor version apart at most."""
    versions = [re.match(r"(\d+)\.(\d+)", version) for version in (client, server)]
    if any(found is None for found in versions):
        return True
    (major, minor), (other_major, other_minor) = ((int(v[1]), int(v[2])) for v in versions if v is not None)
    return major == other_major and abs(minor - other_minor) <= 1
