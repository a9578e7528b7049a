"""Catalogues to begin with: the made-up shop, and published data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molar.base import Display, plain_errors, shown_by
from molar.shop import Shop
from molar_retrieval.errors import RequestError
from molar_retrieval.workspace.discovery import DEFAULT_NAME

if TYPE_CHECKING:
    from molar.days import DaysReport
    from molar.introduction import IntroductionReport
    from molar_retrieval.data.demo import DemoFacts
    from molar_retrieval.data.importers import ImportReport


@dataclass(frozen=True)
class Demo:
    """The made-up shop.

    Attributes:
        shop: With a catalogue; nothing is made of it yet.
        facts: What is in it, a user to ask for, and one without history.
    """

    shop: Shop
    facts: "DemoFacts"

    def live(self, days: int = 14, *, seed: int = 7) -> "DaysReport":
        """Let the shop, which must be aligned, live for some days after its log ends.

        Made-up people ask, react to what they are shown by their hidden tastes, and buy; items arrive, leave, sell out
        and change their prices. All of it is events, appended every five simulated minutes; every night is an
        :meth:`molar.Shop.update`.

        Args:
            days: How many, at most 366.
            seed: Another seed makes other days.

        Returns:
            What each day was like; ``write_page`` makes a page of it.

        Raises:
            RequestError: If there are no or too many days.
            MissingArtefactError: If the shop was not aligned.
        """
        from molar.days import live_days

        return live_days(self.shop, self.facts, days, seed)

    def introduce(self, days: int = 60, *, seed: int = 7, harmful: bool = False) -> "IntroductionReport":
        """Play a staged introduction of other lists, from the day after the log of the shop, which must be aligned.

        Its lists show nothing but what it wants to be rid of, and an experiment finds out what it is worth to show the
        whole range: shadow, interleaving, canary, A/B, everybody. 1,800 anonymous visitors come beside the people that
        the shop knows; all are assigned, answered, recorded and judged by the code of the server, by a simulated clock.

        Args:
            days: How many, at most 366; the last stage of a whole introduction begins after some 40.
            seed: Another seed makes other days.
            harmful: Instead, lists show the whole range, and what is worse is tried on a fifth of the people.

        Returns:
            The stages, how each ended, and estimates beside what is true by the hidden tastes.

        Raises:
            RequestError: If there are no or too many days, or an introduction was played in this shop before.
            MissingArtefactError: If the shop was not aligned.
        """
        from molar.introduction import introduce

        return introduce(self.shop, self.facts, days, seed, harmful=harmful)


@plain_errors
def demo(
    folder: str | Path = "molar-demo",
    *,
    items: int = 400,
    users: int = 800,
    seed: int = 7,
    arriving: bool = False,
    display: Display | None = None,
) -> Demo:
    """Write a small made-up shop, with photos, texts and a log of purchases.

    Args:
        folder: Where it goes; made where it does not exist.
        items: How many.
        users: How many.
        seed: Another seed makes another shop.
        arriving: Items that nobody has bought yet are left out: they arrive by events, see :meth:`Demo.live`.
        display: Makes the progress display of a long step; None: the one that suits a terminal or a notebook.

    Raises:
        RequestError: If the folder holds something else.
        SettingsError: If there are too few items or users.
    """
    from molar_retrieval.data.demo import write_demo_shop

    root = Path(folder)
    catalogue, workspace = root / "shop", root / DEFAULT_NAME
    if root.exists() and any(root.iterdir()) and not workspace.exists() and not catalogue.exists():
        raise RequestError(f"{root} is not empty and holds no demo", "name a new folder: `molar demo FOLDER`")
    facts = write_demo_shop(catalogue, seed=seed, items=items, users=users, arriving=arriving)
    return Demo(Shop(catalogue, workspace, display=display), facts)


def demo_beside(workspace: Path) -> Path:
    """The catalogue of the made-up shop beside a workspace, written where it is not there."""
    from molar_retrieval.data.demo import write_demo_shop

    catalogue = workspace.parent / "shop"
    if not catalogue.exists():
        write_demo_shop(catalogue)
    return catalogue


@plain_errors
def import_dataset(
    format: str,
    source: str | Path,
    target: str | Path,
    *,
    photos: str | Path | None = None,
    level: str | None = None,
    overwrite: bool = False,
    display: Display | None = None,
) -> "ImportReport":
    """Turn published data, in their official layout, into a catalogue; :func:`molar.open` takes its folder.

    Args:
        format: ``movielens``, ``amazon-2014``, ``amazon-2023``, ``pixelrec`` or ``hm``.
        source: The folder with the files as published.
        target: The catalogue's folder: new, empty, or an earlier import.
        photos: The folder with the photos, called by item id; None: the format's own.
        level: For ``hm``: whether an item is a ``product`` (default) or an ``article``.
        overwrite: Replace an earlier import.
        display: See :func:`demo`.

    Raises:
        DataError: If a file is missing or not as published.
        SettingsError: If the format or an option is unknown to it.
    """
    from molar_retrieval.data import importers

    with shown_by(display) as progress:
        return importers.import_dataset(
            format,
            Path(source),
            Path(target),
            photos=None if photos is None else Path(photos),
            level=level,
            overwrite=overwrite,
            progress=progress,
        )
