"""Pages that may ask: the origins of their addresses, as browsers send them with what the scripts of a page ask."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from molar_retrieval.errors import RequestError, shown


def origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454): scheme, host and, where it is not the usual one, port.

    Raises:
        RequestError: If it is none, or has more than an origin: a path, a name, a star.
    """
    remedy = "name scheme and host, as https://shop.example"
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:
        raise RequestError(f"{shown(text)} is no origin of pages: {error}", remedy) from error
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not host or "*" in host or more:
        raise RequestError(f"{shown(text)} is no origin of pages", remedy)
    place = f"[{host}]" if ":" in host else host
    usual = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{place}" if usual else f"{parts.scheme}://{place}:{port}"


def is_of_host(sent: str, host: str) -> bool:
    """Whether a page is of the host that a request names in ``Host``; the scheme may be another one before a proxy."""
    try:
        page, own = urlsplit(sent), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}[page.scheme]
        return page.hostname is not None and (page.hostname, page.port or usual) == (own.hostname, own.port or usual)
    except (ValueError, KeyError):
        return False


def is_local(sent: str) -> bool:
    """Whether a page is of this machine; one without an address, as of a file, is not (``null``)."""
    try:
        return is_loopback(urlsplit(sent).hostname or "")
    except ValueError:
        return False


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host of an address or a header is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
