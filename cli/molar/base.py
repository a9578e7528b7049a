"""Where a shop lies: its catalogue, its workspace, its settings."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from molar.choosing import FILE, may_be_set, settings_of
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.artefacts import Workspace, absolute, checked, scratch_workspace
from molar_retrieval.workspace.discovery import bound, file_beside

if TYPE_CHECKING:
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.settings import EmbedSettings, MolarSettings

_MODEL = "MOLAR_EMBED_MODEL"
Display = Callable[[], AbstractContextManager["Progress"]]
P = ParamSpec("P")
T = TypeVar("T")


def plain_errors(function: Callable[P, T]) -> Callable[P, T]:
    """A call whose MolarErrors stand alone: what a library raised before them is not shown in their tracebacks.

    It is still their ``__context__``.
    """

    @wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return function(*arguments, **named)
        except MolarError as error:
            last = error
            while isinstance(cause := last.__cause__ or last.__context__, MolarError):
                last = cause
            last.__cause__ = None  # nor is the context shown then
            raise

    return called


def front_door(cls: type[T]) -> type[T]:
    """A class whose public methods and properties have :func:`plain_errors`."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, classmethod):
            setattr(cls, name, classmethod(plain_errors(member.__func__)))
        elif isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(plain_errors(member.fget), doc=member.__doc__))
        elif isfunction(member):
            setattr(cls, name, plain_errors(member))
    return cls


@front_door
@dataclass(frozen=True)
class ShopBase:
    """What all that is done for a shop starts from; :class:`molar.Shop` says what the fields are."""

    catalogue: Path | None
    workspace: Path
    settings_file: Path | None = None
    display: Display | None = None

    def __init_subclass__(cls) -> None:
        front_door(cls)

    def __post_init__(self) -> None:
        for name in (
            "catalogue",
            "workspace",
            "settings_file",
        ):  # a program may say "shop", and go elsewhere
            if (place := getattr(self, name)) is not None:
                object.__setattr__(self, name, absolute(Path(place)))
        if self.catalogue is not None and self.catalogue.is_file():
            from molar_retrieval.data.schema import folder_of

            object.__setattr__(self, "catalogue", folder_of(self.catalogue))

    @property
    def settings(self) -> "MolarSettings":
        """The settings of the user configuration, ``molar.toml`` and the environment."""
        return self._settings()

    def opened(self) -> Workspace:
        """The workspace; raises :class:`MissingArtefactError` if nothing was made yet."""
        place = Workspace.open(self.workspace)
        self._settle(made_for=False)
        return place

    def ready(self) -> Workspace:
        """The workspace, to write of people into it: they are named there as the settings say.

        Raises:
            MissingArtefactError: If nothing was made yet.
            DataError: If the settings want pseudonyms, and people are named by the shop's ids there.
        """
        return self._named(self.opened())

    def _named(self, workspace: Workspace) -> Workspace:
        settings = self.settings.privacy
        if settings.ids == "pseudonymous":
            from molar_retrieval.privacy.pseudonymisation import ensure_pseudonyms

            ensure_pseudonyms(workspace, settings, self.folder())
        return workspace

    def folder(self) -> Path:
        """The catalogue's folder; raises :class:`MissingArtefactError` if none was named and nothing made yet."""
        return self.catalogue or self.opened().catalogue

    @contextmanager
    def bound(self, *, dry: bool = False) -> Iterator[Workspace]:
        """The workspace of the catalogue, made where it does not exist, and kept if what is done in it ends well.

        Args:
            dry: Whether it forgets what is written.

        Raises:
            DataError: If there is no catalogue, the workspace serves another one, or it names people otherwise than the
                settings say.
        """
        from molar_retrieval.data.schema import items_source

        folder = self.folder()
        items_source(folder)
        if not dry:
            with bound(checked(self.workspace), folder):
                self._settle()
                yield self._named(Workspace(self.workspace))
            return
        with scratch_workspace(self.workspace, folder) as place:
            yield place

    def progress(self) -> AbstractContextManager["Progress"]:
        """The display of a long step."""
        return shown_by(self.display)

    def _settle(self, *, made_for: bool = True) -> None:
        """Have the list of suppressed people where the settings want it; a reader looks only where there is none."""
        from molar_retrieval.privacy.suppression import FILE as LIST

        written = may_be_set(self.workspace, self.settings_file, "PRIVACY_")
        if written and (made_for or not (self.workspace / LIST).exists()):
            wanted = self.settings.privacy.suppressed_file
            if wanted is not None:
                from molar_retrieval.privacy.suppression import place

                place(self.workspace, wanted)

    def _encoding(self, *, untuned: bool = False, **said: Any) -> "MolarSettings":
        """As :meth:`_settings`; an encoder that they leave open is that of the workspace's vectors.

        ``untuned``: where a fine-tuned one made these, it is the encoder beneath.
        """
        from molar_retrieval.embedding import run

        asked = self._settings(**said)
        found = run.with_current_encoder(asked.embed, Workspace(self.workspace))
        if untuned and "model" not in asked.embed.model_fields_set:
            found = run.base_encoder(found)
        return asked.model_copy(update={"embed": found})

    def _encoder_named(self, chosen: "EmbedSettings", flag: str | None) -> str:
        """What names another encoder than made the workspace's vectors, where no flag does; a sentence or nothing."""
        from molar_retrieval.embedding.run import current_encoder

        former = current_encoder(Workspace(self.workspace)).get("model")
        if flag is not None or former in (None, chosen.model):
            return ""
        named = _MODEL if _MODEL in os.environ else self.settings_file or file_beside(self.workspace, FILE)
        return f"{named} names the encoder {chosen.model}; without that, {former} would stay"

    @staticmethod
    def _staging(settings: "MolarSettings") -> "MolarSettings":
        """The settings by which what is published does not go live."""
        return settings.model_copy(update={"index": settings.index.model_copy(update={"activate": False})})

    def _settings(self, *, trust: bool = False, index: str | None = None, **sections: Any) -> "MolarSettings":
        return settings_of(self.workspace, self.settings_file, trust=trust, index=index, **sections)


def shown_by(display: Display | None) -> AbstractContextManager["Progress"]:
    """The display of a long step; None: the one that suits where the program runs."""
    if display is not None:
        return display()
    from molar import progress

    return progress.display()
