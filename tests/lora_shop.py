"""A shop of coloured things for tests of fine-tuning: photos show what titles say, people keep to a colour."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

COLOURS = {
    "red": (220, 30, 30),
    "blue": (30, 30, 220),
    "green": (20, 160, 40),
    "grey": (120, 120, 120),
    "pink": (250, 150, 200),
}
KINDS = ("mug", "lamp", "sofa", "shirt")
EACH = 3
TASKS = ("image_text", "attributes", "behaviour")
N = len(COLOURS) * len(KINDS) * EACH


def write(folder: Path, *, photos: bool = True, attributes: bool = True, interactions: bool = True) -> Path:
    """A catalogue of 60 items and the histories of 40 people."""
    (folder / "images").mkdir(parents=True)
    rows = [(colour, kind, n) for colour in COLOURS for kind in KINDS for n in range(EACH)]
    for number, (colour, kind, _) in enumerate(rows):
        if photos:
            picture = np.zeros((64, 64, 3), np.uint8) + 255
            stripe = 8 << KINDS.index(kind)
            picture[np.arange(64) % stripe < stripe // 2] = COLOURS[colour]
            picture[: 1 + number] //= 2
            Image.fromarray(picture).save(folder / "images" / f"i{number}.png")
    table = {
        "item_id": [f"i{number}" for number in range(N)],
        "title": [f"{colour} {kind} {n}" for colour, kind, n in rows],
    }
    if attributes:
        table |= {"colour": [colour for colour, _, _ in rows], "kind": [kind for _, kind, _ in rows]}
    pq.write_table(pa.table(table), folder / "items.parquet")
    if interactions:
        random = np.random.default_rng(0)
        taken = [random.permutation(N // 5)[:7] + N // 5 * (person % 5) for person in range(40)]
        log = {
            "user_id": [f"u{person}" for person, items in enumerate(taken) for _ in items],
            "item_id": [f"i{item}" for items in taken for item in items],
            "timestamp": [3600 * place for items in taken for place in range(len(items))],
        }
        pq.write_table(pa.table(log), folder / "interactions.parquet")
    return folder


def prepared(folder: Path, shop: Path) -> Workspace:
    """A workspace that has read the shop."""
    workspace = Workspace.for_catalogue(folder / ".molar", shop)
    prepare_catalogue(shop, workspace)
    if (shop / "interactions.parquet").exists():
        prepare_interactions(shop, workspace)
    return workspace


def settings(model: Path, *, tasks: tuple[str, ...] = TASKS, **lora) -> MolarSettings:
    """Small and exact: float32 on the processor, without dropout."""
    embed = {"model": str(model), "device": "cpu", "dtype": "float32", "image_pixels": 4096, "prompt": "Say it."}
    small = {"batch": 4, "mini_batch_size": 64, "n_examples": 40, "dropout": 0, "learning_rate": 1e-2, "rank": 4}
    return MolarSettings.model_validate(
        {
            "embed": embed,
            "finetune": {name: name in tasks for name in TASKS} | {"withheld": 0.2},
            "lora": small | {"gradient_checkpointing": False} | lora,
        }
    )
