"""Who may do what in the studio: a viewer looks, a merchandiser changes rules and items, an admin everything."""

from typing import Literal, get_args

from molar_retrieval.errors import RequestError, suggestion
from molar_serving.auth import Key, Scope

Role = Literal["viewer", "merchandiser", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SCOPES_OF: dict[Role, tuple[Scope, ...]] = {
    "viewer": ("studio",),
    "merchandiser": ("studio", "catalogue", "rules"),
    "admin": ("studio", "catalogue", "rules", "admin"),
}
"""What the key of a role allows, over HTTP as well."""


def scopes_of(role: str) -> list[str]:
    """What the key of a role allows; a RequestError if there is no such role."""
    if role not in ROLES:
        raise RequestError(f"there is no role {role!r}", suggestion(role, ROLES, f"name one of {', '.join(ROLES)}"))
    return list(SCOPES_OF[role])


def role_of(key: Key) -> Role | None:
    """The highest role that a key has; None: it does not open the studio."""
    return next((role for role in reversed(ROLES) if set(SCOPES_OF[role]) <= set(key.scopes)), None)


def allows(role: Role, wanted: Role) -> bool:
    """Whether a role may do what another one may."""
    return ROLES.index(role) >= ROLES.index(wanted)
