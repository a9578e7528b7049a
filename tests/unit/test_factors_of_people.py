"""Factors of people: only training reads them, and they are dropped when it is done."""

import numpy as np
import pytest
from copies import copy_workspace

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.als import drop_users, factorise, has_users, open_factors
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import ALSSettings, SplitSettings


@pytest.fixture
def workspace(trained, tmp_path):
    for kind in ("catalogue", "interactions"):
        copy_workspace(trained.workspace / kind, tmp_path / ".molar" / kind)
    (tmp_path / ".molar/workspace.json").write_bytes((trained.workspace / "workspace.json").read_bytes())
    return Workspace.open(tmp_path / ".molar")


def test_they_go_and_come_back_the_same(workspace):
    chosen = ALSSettings(), SplitSettings()
    first = factorise(workspace, *chosen)
    whole = open_factors(first.folder)
    drop_users(workspace)
    drop_users(workspace)
    folder, manifest = workspace["als"].require()
    assert (folder, manifest.fingerprint, manifest.facts["dropped"]) == (first.folder, first.fingerprint, ["users"])
    assert artefacts.check_inventory(folder, digests=True) == []
    assert not has_users(folder)
    assert whole.users[0].tobytes() not in (folder / "factors.safetensors").read_bytes()
    assert not workspace["als"].partials()
    with pytest.raises(StaleArtefactError, match="no factors of people"):
        open_factors(folder)
    assert factorise(workspace, *chosen).up_to_date, "items are all that is asked for"
    again = factorise(workspace, *chosen, people=True)
    assert (again.up_to_date, again.fingerprint) == (False, first.fingerprint)
    back = open_factors(again.folder)
    assert np.array_equal(back.users, whole.users)
    assert np.array_equal(back.items, whole.items)
    assert artefacts.check_inventory(again.folder, digests=True) == []
    assert len(workspace["als"].versions()) == 1


def test_damaged_factors_are_made_again_where_people_are_asked_for(workspace):
    folder = factorise(workspace, ALSSettings(), SplitSettings()).folder
    (folder / "factors.safetensors").write_bytes(b"not")
    drop_users(workspace)
    assert not factorise(workspace, ALSSettings(), SplitSettings(), people=True).up_to_date
