"""What nobody is to read: keys and tokens of the environment, logins and queries in addresses.

Everything that an error, a note, a traceback or a log says goes through :func:`redacted`. Results do not: they are the
shop's data, and an id must stay what it is.
"""

import os
import re
from collections.abc import Mapping
from urllib.parse import quote

SECRETS = ("QDRANT_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # variables of the environment that hold one
HIDDEN = "…"
_ESCAPE = r"\\*"  # between the characters of a secret, where it was quoted, however often
_LOGIN = re.compile(r"(?<=://)[^/\s'\"]*(?=@)")
_QUERY = re.compile(r"(\b\w{1,32}://[^\s?#'\"]+[?#])[^\s'\"]+")
_TOKEN = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_|glpat-|xox[abp]-|AKIA|eyJ)[\w.-]{8,}|\bmolar_[A-Za-z0-9-]+_[\w-]{43}"
)


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text without secrets, in whatever way an error or a server writes them down."""
    for name in SECRETS:
        if secret := environ.get(name, "").strip():
            for form in _forms(secret):
                text = re.sub(_ESCAPE.join(map(re.escape, form)), HIDDEN, text)
    text = _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text))
    return _TOKEN.sub(HIDDEN, text)


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as Python, an address or a wrong decoding would show it."""
    encoded = secret.encode("utf-8", "surrogateescape")
    wrong = encoded.decode("latin-1")
    return {secret, ascii(secret)[1:-1], quote(encoded, safe=""), repr(encoded)[2:-1], wrong, ascii(wrong)[1:-1]}
