"""A run with nothing to encode is quick and imports nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedding_fakes import FakeEncoder, run
from test_embedding_memory import prepared

from molar_retrieval.encoders import registry
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.settings import EmbedSettings

HEAVY = ("torch", "transformers", "sentence_transformers", "timm", "torchvision", "qdrant_client", "implicit")
SCRIPT = """
import json, sys
from pathlib import Path
from molar_retrieval.workspace.settings import EmbedSettings
from molar_retrieval.embedding import ContentVectors, dry_run, embed
from molar_retrieval.workspace.artefacts import Workspace
workspace = Workspace.open(Path(sys.argv[1]))
report = embed(workspace, EmbedSettings())
content = ContentVectors.open(report.folder)
forecast = dry_run(workspace, EmbedSettings())
heavy = [name for name in sys.argv[2].split() if name in sys.modules]
print(json.dumps({**report.to_dict(), "heavy": heavy, "shape": content.vectors.shape, "pending": forecast.to_encode}))
"""


@pytest.fixture
def embedded(tmp_path: Path) -> Workspace:
    """4,000 items whose vectors are said to be the built-in encoder's."""
    workspace = Workspace.open(prepared(tmp_path / "ws", 4000))
    run(workspace, FakeEncoder(registry.describe(EmbedSettings())), batch_size=256)
    return workspace


def second_run(workspace: Workspace) -> dict[str, Any]:
    command = [sys.executable, "-c", SCRIPT, workspace.root, " ".join(HEAVY)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return dict(json.loads(out))


@pytest.mark.alone
def test_unchanged(embedded: Workspace) -> None:
    report = second_run(embedded)
    assert report["up_to_date"]
    assert report["heavy"] == []
    assert report["shape"] == [4000, 16]
    assert report["pending"] == 0
    assert report["seconds"]["total"] < 1


@pytest.mark.alone
def test_other_catalogue_with_the_same_content(embedded: Workspace) -> None:
    store = embedded["catalogue"]
    partial = store.partial("other prices")
    (partial / "items.parquet").write_bytes((store.current / "items.parquet").read_bytes())
    store.publish(partial, Manifest("catalogue", "other prices", facts=store.manifest.facts))
    report = second_run(embedded)
    assert (report["up_to_date"], report["encoded"], report["reused"]) == (False, 0, 4000)
    assert report["heavy"] == []
    assert report["seconds"]["total"] < 2
