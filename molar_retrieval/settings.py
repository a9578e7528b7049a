"""What every section of the settings is made of, and how a wrong value is told."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from molar_retrieval import fingerprint
from molar_retrieval.errors import SettingsError, suggestion
from molar_retrieval.redaction import redacted

_LARGEST = 2**63 - 1
_SHOWN = 80
_COMMAND_LINE_ONLY = {
    "embed.trust_remote_code": "remove it: trust comes from the command line alone: --trust-remote-code"
}
"""What no settings can say, and where it is said."""
_TRUSTED = "trusted"


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


def trusted(option: str | None = None) -> dict[str, Any]:
    """``json_schema_extra`` of a setting that names a host, a file outside of the shop, a program or a secret.

    Such a setting counts from the command line, the environment and the user configuration, and never from a file that
    travels with data: :func:`refuse_trusted`.

    Args:
        option: What the command line calls it, where it has an option.
    """
    return {_TRUSTED: True, "option": option}


def is_trusted(field: FieldInfo) -> bool:
    """Whether a setting is marked by :func:`trusted`."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get(_TRUSTED))


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
            raise SettingsError(f"{source}: unknown key {key!r}", _COMMAND_LINE_ONLY.get(key, hint)) from error
        raise SettingsError(
            f"{source}: {key} = {_brief(first['input'])}: {first['msg'].removeprefix('Value error, ')}",
            _remedy(first["input"], first.get("ctx", {})),
        ) from error


def refuse_trusted(model: type[BaseModel], values: Mapping[str, Any], source: str, user_file: Path) -> None:
    """Raise a SettingsError where a file that travels with data sets a trusted key; it names the ways that count.

    Args:
        model: The settings, with a model for each section.
        values: Keys by section, as the file has them.
        source: What the file is called.
        user_file: The user configuration.
    """
    for section, field in model.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            continue
        for key, one in field.annotation.model_fields.items():
            if key in values.get(section, {}) and is_trusted(one):
                assert isinstance(one.json_schema_extra, dict)
                option = one.json_schema_extra["option"]
                raise SettingsError(
                    f"{source}: {section}.{key} names a host, a file or a secret, and does not count from a file that"
                    " travels with data",
                    f"remove it there; {f'give it on the command line ({option}), ' if option else 'set it '}in the"
                    f" environment (MOLAR_{section.upper()}_{key.upper()}) or in the user configuration: [{section}]"
                    f" {key} in {user_file}",
                )


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
