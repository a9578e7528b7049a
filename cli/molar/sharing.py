"""Statistics with noise as a file for other shops."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molar.base import ShopBase, front_door
from molar_retrieval.errors import RequestError, SettingsError
from molar_retrieval.workspace.activity_log import recorded

if TYPE_CHECKING:
    from molar_retrieval.privacy.federated import SharedFile


@front_door
@dataclass(frozen=True)
class Sharing:
    """Tells other shops what they can add to their own."""

    shop: ShopBase

    def share(
        self,
        out: str | Path,
        *,
        epsilon: float | None = None,
        items: Collection[str] | None = None,
        like: str | Path | None = None,
        shops: int | None = None,
    ) -> "SharedFile":
        """Write statistics with noise as a file for other shops, which :meth:`molar.Shop.align` takes as ``others``.

        A release of the same log at this ε and δ is found again, and costs nothing; else there is one, which the ledger
        counts. What is live stays as it is. The file holds noised sums, ids of items and public parameters.

        Args:
            out: Where it goes.
            epsilon: ε for each person; None: as the settings say.
            items: Ids of the items that it may tell of; None: all of the catalogue.
            like: A file of another shop, in whose terms it tells what items look like: only in the same terms can that
                be added up. It is another release where there was one in other terms. None: as it was released, or in
                terms of the catalogue.
            shops: How many shops of about this size add up: what is worth its noise in the sum is released then.
                It is another release where there was one for another number. None: as it was released, or one.

        Raises:
            SettingsError: If no ε is named, or the encoder has learned from people.
            RequestError: If ``items`` is empty, or ``like`` is not there.
            DataError: If the budget does not bear a release, ``like`` cannot be read or is by another encoder, none of
                ``items`` is known, or the file cannot be written.
            MissingArtefactError: If nothing was embedded yet.
            StaleArtefactError: If the ledger is damaged.
        """
        from molar.aligning import prepare_log
        from molar_retrieval.privacy.federated import share_statistics
        from molar_retrieval.privacy.statistics import open_shared

        settings = self.shop._settings(privacy={"epsilon": epsilon})
        if not settings.privacy.with_noise:
            raise SettingsError(
                "no ε is named: nothing is shared without noise", "name --epsilon, or [privacy] epsilon"
            )
        if items is not None and not items:
            raise RequestError("no item may be shared", "name items, or leave it out for all")
        if shops is not None and shops < 1:
            raise RequestError(f"{shops} shops cannot add up", "name 1 or more")
        terms, place, dims = None if like is None else open_shared(Path(like)), self.shop.ready(), settings.align
        with self.shop.progress() as progress, recorded(place, "privacy share") as work:
            prepare_log(place, settings, progress, fixed=True)
            done = share_statistics(
                place,
                settings.privacy,
                dims.content_components,
                Path(out),
                items=None if items is None else list(items),
                like=terms,
                shops=shops,
                progress=progress,
            )
            work.outcome = f"ε = {done.epsilon:g}, {'released' if done.released else 'as it was released'}"
            return done
