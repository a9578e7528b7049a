"""What happens in a shop from one day to the next, written into its files."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

import molar
from molar_indexes.generations import publish_made
from molar_retrieval.workspace.artefacts import Workspace


class Days:
    """A copy of a trained shop whose files change."""

    def __init__(self, trained: Any, folder: Path) -> None:
        copy_workspace(trained.shop, folder / "shop")
        copy_workspace(trained.workspace, folder / ".molar")
        small = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
        (folder / "molar.toml").write_text("\n".join(["[align]", *small]), "utf-8")
        self.folder, self.stamp = folder / "shop", 1_800_000_000
        self.shop = molar.Shop(trained.shop, folder / ".molar").move(catalogue=self.folder)
        self.workspace = Workspace(self.shop.workspace)

    def items(self, change: Any) -> None:
        """Write what ``change`` makes of the table of items."""
        self._rewrite("items", change)

    def log(self, change: Any) -> None:
        """Write what ``change`` makes of the table of interactions."""
        self._rewrite("interactions", change)

    def rename(self, name: Any) -> None:
        """Everybody has another name in the files, as ``name`` says of one."""
        for kind in ("interactions", "users"):
            self._rewrite(kind, lambda table: table.assign(user_id=table["user_id"].map(name)))

    def buy(self, *deeds: tuple[str, str]) -> None:
        """Some users take some items, one after the other, after all that has happened."""

        def appended(table: pd.DataFrame) -> pd.DataFrame:
            last = table["timestamp"].max()
            unit = pd.Timedelta(hours=1) if str(table["timestamp"].dtype).startswith("datetime") else 3600
            new = [{"user_id": u, "item_id": i, "timestamp": last + n * unit} for n, (u, i) in enumerate(deeds, 1)]
            return pd.concat([table, pd.DataFrame(new)], ignore_index=True)

        self.log(appended)

    def prepare(self) -> None:
        """Bring everything but the alignment to the present."""
        from molar.aligning import prepare_log

        self.shop.embed()
        with self.shop.progress() as progress:
            prepare_log(self.workspace, self.shop.settings, progress)

    def _rewrite(self, name: str, change: Any) -> None:
        path = self.folder / f"{name}.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)
        self.stamp += 60  # two changes within one tick of the clock are two
        os.utime(path, (self.stamp, self.stamp))


def another_generation(workspace: Workspace, keep: int = 2) -> str:
    """Publish a generation with the same files, which passes for one that knows the first 99 events; its name."""
    folder, manifest = workspace["generations"].require()

    def made(partial: Path) -> dict[str, Any]:
        for path in folder.iterdir():
            if path.name not in ("manifest.json", "files.json"):
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, partial / path.name)
        return {**manifest.facts, "events": {**manifest.facts.get("events", {}), "interactions": 99, "catalogue": 99}}

    with publish_made(workspace, made, inputs=manifest.inputs, settings=manifest.settings, keep=keep) as published:
        return published.name
