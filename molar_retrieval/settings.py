"""What every section of the settings is made of, and how a wrong value is told."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from molar_retrieval import fingerprint
from molar_retrieval.errors import SettingsError, suggestion
from molar_retrieval.redaction import redacted

_LARGEST = 2**63 - 1
_SHOWN = 80
_ELSEWHERE = {"embed.trust_remote_code": "remove it: trust comes from the command line alone: --trust-remote-code"}
"""What settings cannot say, and where it is said."""


def _split(value: Any) -> Any:
    """Names from an environment variable: ``country,age``."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    """Texts of a list, separated by commas."""
    return ",".join(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _addresses(value: str | None) -> str | None:
    """Addresses, each once and without a login, which would be written down with the settings."""
    return None if value is None else ",".join(dict.fromkeys(_address(one.strip()) for one in value.split(",")))


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address such as http://host:6333 is due")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the address holds more than a host; a key belongs into the environment: QDRANT_API_KEY")
    return value.rstrip("/")


LISTED = BeforeValidator(_split)
"""Marks a field of several names, which an environment variable gives in one string."""
Addresses = Annotated[str | None, BeforeValidator(_joined), AfterValidator(_addresses)]
"""The address of a server, or several of a cluster, which people give as a list or separated by commas."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict about keys; numbers are finite, and words no books."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=65_536, hide_input_in_errors=True
    )

    @field_validator("*", mode="after")
    @classmethod
    def _of_a_machine(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("the number is too large")
        return value

    def fingerprint(self) -> str:
        """Changes with every value."""
        return fingerprint.of_json(self.model_dump(mode="json"))


SettingsT = TypeVar("SettingsT", bound=Settings)


def validated(model: type[SettingsT], values: Mapping[str, Any], source: str) -> SettingsT:
    """Settings from plain values; a SettingsError names the first wrong key, its nearest relative and the source."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "constrained-float")
        if first["type"] == "extra_forbidden":
            hint = suggestion(str(first["loc"][-1]), _keys(model, first["loc"][:-1]), "remove it")
            raise SettingsError(f"{source}: unknown key {key!r}", _ELSEWHERE.get(key, hint)) from error
        raise SettingsError(
            f"{source}: {key} = {_brief(first['input'])}: {first['msg'].removeprefix('Value error, ')}",
            _remedy(first["input"], first.get("ctx", {})),
        ) from error


def _brief(value: Any) -> str:
    try:
        shown = redacted(repr(value))
    except ValueError:  # an integer of too many digits
        return "…"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _remedy(value: Any, context: Mapping[str, Any]) -> str:
    """The allowed word nearest to a wrong one, where words are allowed."""
    words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    return suggestion(value if isinstance(value, str) else "", words, "correct the value")


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        nested = model.model_fields[str(part)].annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            model = nested
    return list(model.model_fields)
