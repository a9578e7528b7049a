"""Settings of a Ray cluster, the section ``[cluster]`` of ``molar.toml``."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from molar_retrieval.settings import Settings, trusted


class ClusterSettings(Settings):
    """``[cluster]``: a Ray cluster that does the work of which there is much."""

    address: str | None = Field(
        None, description="ray://HOST:10001; None: this machine does all work", json_schema_extra=trusted("--cluster")
    )
    token_file: Path | None = Field(
        None,
        description="file with the token of the cluster at that address; None: what Ray's own variables say",
        json_schema_extra=trusted(),
    )
    workers: int | None = Field(
        None, ge=1, le=10_000, description="work at once, at most; None: as many as there are CPUs, or GPUs where used"
    )
    ranks: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="train towers together, each with a GPU, or with as many CPUs as [align] threads says; 0: this"
        " machine trains; None: one per GPU, where there are more of them than here",
    )

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "ray" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise ValueError("an address such as ray://host:10001 is due")
        return value.rstrip("/")
