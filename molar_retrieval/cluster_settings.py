"""Settings of a Ray cluster, the section ``[cluster]`` of ``molar.toml``."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from molar_retrieval.settings import Settings


class ClusterSettings(Settings):
    """``[cluster]``: a Ray cluster that does the work of which there is much."""

    address: str | None = Field(
        None, description="ray://HOST:10001; None: the machines on which `molar cluster up` was run for the workspace"
    )
    token_file: Path | None = Field(
        None, description="file with the token of the cluster at that address; None: what Ray's own variables say"
    )
    storage: str | None = Field(
        None,
        description="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///FOLDER: workers read and write there what they"
        " need; None: they see catalogue and workspace under the same paths",
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

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.ranks and self.storage is not None:
            raise ValueError("ranks read the workspace in a folder that all machines see: leave storage out")
        return self

    @field_validator("storage")
    @classmethod
    def _storage(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("s3", "gs", "file") or parts.username is not None or not parts.netloc + parts.path:
            raise ValueError("a place such as s3://bucket/prefix is due, without keys")
        return value.rstrip("/")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "ray" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise ValueError("an address such as ray://host:10001 is due")
        return value.rstrip("/")
