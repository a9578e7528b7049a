"""Where a cluster is, what proves that one may use it, and what it says to somebody who proves nothing."""

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from molar_retrieval.errors import BackendError

PORT = 10001
"""Where Ray listens for programs that use a cluster, unless it is told otherwise."""
_PROBE = "/ray.rpc.RayletDriver/ClusterInfo"
_FOR_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "10"}
"""Nothing is told to Ray's makers; a program or a head that is gone is waited for so many seconds."""


class Doorkeeper(StrEnum):
    """How a cluster answers somebody without a token."""

    REFUSES = "refuses"
    LETS_IN = "lets in"  # whoever reaches its ports can run any program on it
    SILENT = "silent"  # nothing answers there


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster: ``ray://HOST:PORT``, and the file with its token; None: the environment may hold one."""

    url: str
    token: Path | None = None

    @property
    def netloc(self) -> str:
        """Host and port."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        return f"{f'[{host}]' if ':' in host else host}:{parts.port or PORT}"

    def environment(self) -> dict[str, str]:
        """What Ray reads of a process that uses the cluster."""
        needed = with_token(self.token) if self.token is not None else {}
        return {**os.environ, **_FOR_RAY, **needed}

    def require(self) -> None:
        """Raise a BackendError where nothing answers, or the token is not the cluster's: Ray would try for minutes."""
        found = self.doorkeeper(self._secret())
        if found is Doorkeeper.SILENT:
            raise BackendError(
                f"the cluster at {self.url} does not answer", "start it with `ray start --head`, or correct its address"
            )
        if found is Doorkeeper.REFUSES:
            raise BackendError(
                f"the cluster at {self.url} refuses this token" if self._secret() else f"{self.url} asks for a token",
                "name the file that has it: MOLAR_CLUSTER_TOKEN_FILE, or RAY_AUTH_TOKEN_PATH as Ray has it",
            )

    def _secret(self) -> str | None:
        """The token, from where Ray would have it."""
        given = os.environ.get("RAY_AUTH_TOKEN")
        if self.token is None and given:
            return given
        file = self.token or Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        with suppress(OSError, UnicodeDecodeError):
            return file.read_text("utf-8").strip() or None
        return None

    def doorkeeper(self, token: str | None = None, timeout: float = 3.0) -> Doorkeeper:
        """Knock with a token, or with none."""
        import grpc

        proof = () if token is None else (("authorization", f"Bearer {token}"),)
        with grpc.insecure_channel(self.netloc) as channel:
            try:
                channel.unary_unary(_PROBE)(b"", timeout=timeout, metadata=proof)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    return Doorkeeper.REFUSES
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    return Doorkeeper.SILENT
        return Doorkeeper.LETS_IN


def with_token(token: Path) -> dict[str, str]:
    """What Ray reads where a token is asked for."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def require_ray() -> None:
    """Raise a BackendError, which names the extra, where Ray is not installed."""
    if find_spec("ray") is None:
        raise BackendError(
            "a cluster needs Ray, which is not installed",
            "install it on every machine: `pip install 'molar-retrieval[cluster]'`; without it --on local works here",
        )
