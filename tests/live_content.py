"""What the live versions of a workspace hold, so that two workspaces can be compared bit by bit."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import load_file

from molar_indexes.generations import open_generation
from molar_retrieval.workspace.artefacts import Workspace


def content_of(root: Path) -> dict[str, Any]:
    """Every tensor, table, row and list of what is live, by kind and file; names, times and links are left out."""
    workspace, found = Workspace(root), dict[str, Any]()
    for kind in ("interactions", "statistics", "als", "alignment", "generations"):
        if workspace[kind].current is None:
            continue
        folder, manifest = workspace[kind].require()
        for path in sorted(folder.rglob("*")):
            name = f"{kind}/{path.relative_to(folder)}"
            if "/index/" in name or path.is_dir():
                continue
            if path.suffix == ".safetensors":
                found[name] = {key: (t.dtype.str, t.shape, t.tobytes()) for key, t in load_file(path).items()}
            elif path.suffix == ".parquet":
                found[name] = pq.read_table(path).to_pydict()
            elif path.suffix == ".sqlite":
                with closing(sqlite3.connect(path)) as connection:
                    found[name] = list(connection.iterdump())
            elif path.name not in ("manifest.json", "files.json"):
                found[name] = json.loads(path.read_text("utf-8"))
        told = {"users", "items", "interactions", "content", "weights", "scores", "curve"}
        facts = {name: value for name, value in manifest.facts.items() if name in told}
        facts["curve"] = [{**one, "seconds": 0} for one in facts.get("curve", [])]
        found[f"{kind} facts"] = facts
    with open_generation(workspace) as generation:
        index = generation.index
        items = index.fetch(range(len(index)), vectors=[*index.spec.dims, *index.spec.sparse])
        found["generations/index"] = [(one.item_id, one.payload, one.vectors, one.sparse) for one in items]
    return found
