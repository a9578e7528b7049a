"""Tuning: a search for better settings, and writing them down."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase
from molar.choosing import FILE
from molar.retaining import at_work
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.config_files import with_keys
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.files import wait_beside, write_atomically

if TYPE_CHECKING:
    from molar_eval.tuning.result import TuningResult
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.config_files import Preset


class SettingsTuning(ShopBase):
    """Settings that are found by trials."""

    def tune(
        self,
        *,
        minutes: float = 60.0,
        trials: int | None = None,
        preset: "Preset | None" = None,
        write: bool = False,
    ) -> "TuningResult":
        """Search for better settings of ``[align]`` and ``[als]``, by people whose last interaction is held out.

        Half of them choose; whether the best settings are better than the present ones, the other half says. What is
        live stays as it is. A killed search goes on where it was; one whose budget is spent does nothing. It needs the
        extra ``tune``.

        Args:
            minutes: What all trials of one search may take together, those of earlier calls included; the first, of
                the settings as they are, always runs.
            trials: Most trials of the search; None: as many as there is time for.
            preset: Search under another preset of ``[align]``; None: under that of the settings.
            write: Write the best settings into the settings file, if they are better for those who did not choose; its
                comments stay.

        Returns:
            The trials, the comparison, what to change, what mattered.

        Raises:
            BackendError: If the extra is not installed.
            DataError: If too few people can be asked, or another process tunes this workspace.
            MissingArtefactError: If there are no content vectors yet.
            SettingsError: If the settings want differential privacy: a search reads histories without noise.
        """
        from molar.aligning import prepare_log, refuse_to_break_a_promise
        from molar_eval.tuning.search import require_optuna, tune
        from molar_retrieval.workspace.threads import keep_freed_memory

        if minutes <= 0 or (trials is not None and trials < 1):
            raise SettingsError("a search has no time, or no trials", "name at least one minute and one trial")
        require_optuna()
        keep_freed_memory()
        said: dict[str, Any] = {} if preset is None else {"preset": preset}
        chosen, place = self._encoding(align=said), self.ready()
        if chosen.privacy.with_noise:
            raise SettingsError(
                "the settings want differential privacy, and a search reads histories without noise",
                "tune without [privacy] epsilon, or leave the settings as they are",
            )
        refuse_to_break_a_promise(place, chosen)
        with self.progress() as progress, at_work(place, "tune", chosen, progress) as work:
            prepare_log(place, chosen, progress)
            also = {"align": said}
            result = tune(place, chosen, minutes=minutes, trials=trials, also=also, progress=progress)
            work.outcome = f"{result.ran} trials, {len(result.trials)} in all"
            if write and result.recommended:
                result = replace(result, written=self._write(result.changes, progress))
        return result

    def _write(self, changes: Mapping[str, Mapping[str, Any]], progress: "Progress") -> Path:
        """Write settings into the file that this shop has them from."""
        path = self.settings_file or file_beside(self.workspace, FILE)
        target = path.resolve()
        with wait_beside(target):
            there = target.exists()
            text = with_keys(target.read_bytes().decode("utf-8") if there else "", changes, str(path))
            write_atomically(target, text, target.stat().st_mode & 0o777 if there else None)
        for section, keys in changes.items():
            for key in keys:
                if (name := f"MOLAR_{section}_{key}".upper()) in os.environ:
                    progress.note(f"{name} is set, which wins over {path}")
        return path
