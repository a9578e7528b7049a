"""Settings of `molar serve`, the section ``[serve]`` of ``molar.toml``."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from molar_retrieval.settings import Settings, trusted

_EventType = Literal[
    "purchase",
    "add_to_cart",
    "view",
    "click",
    "impression",
    "remove_from_cart",
    "return",
    "rating",
    "search",
]


class ServeSettings(Settings):
    """``[serve]``: where it listens, how much it takes on, how long an answer may take."""

    host: str = Field(
        "127.0.0.1",
        description="address to listen on; another than this machine's own needs keys",
        json_schema_extra=trusted("--host"),
    )
    port: int = Field(8080, ge=0, le=65535, description="0: any that is free")
    workers: int = Field(1, ge=1, le=64, description="processes; they share generation and event log")
    threads: int = Field(2, ge=1, le=64, description="answers that a process computes at once; more of them are slower")
    queue_size: int = Field(64, ge=1, le=100_000, description="requests that wait for these; more are answered 503")
    deadline: float = Field(
        1.0, gt=0, le=60, description="seconds for a list, then the popular one; `Prefer: wait=50ms` says less"
    )
    response_ttl_minutes: float = Field(
        30, ge=0, le=1_000_000, description="minutes for which a list can be asked for again, and for its next page"
    )
    shutdown_timeout: float = Field(10, gt=0, le=600, description="seconds that answers under way have when it ends")
    certificate: Path | None = Field(
        None,
        description="file of a TLS certificate; None: plain HTTP, as behind a proxy",
        json_schema_extra=trusted(),
    )
    private_key: Path | None = Field(None, description="file of the certificate's key", json_schema_extra=trusted())
    event_aliases: dict[str, _EventType] = Field(
        {},
        description="what a shop's own names of events mean, which clients of other products send: reorder = purchase",
    )
    studio: bool = Field(True, description="pages for merchandisers and managers at /studio")
    access_log: bool = Field(False, description="every request in WORKSPACE/serving/access.jsonl, people by pseudonyms")
    opentelemetry: bool = Field(False, description="a span of each request to OTEL_EXPORTER_OTLP_ENDPOINT")
