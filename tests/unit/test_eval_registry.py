"""From names to models: presets, parts, ablations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from molar_eval.models.prequential import arms
from molar_eval.models.registry import (
    ABLATIONS,
    BY_SCORE,
    FAST,
    FUTURE,
    OURS,
    PARTS,
    WITHOUT,
    ModelRegistry,
    with_changes,
)
from molar_eval.splits import PREQUENTIAL
from molar_eval.suite import load, names
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import COUNT_MODELS, TOWERS, MolarSettings, with_preset

EVERY = {*TOWERS, *COUNT_MODELS}
SETTINGS = MolarSettings.load(
    Path("nowhere"), environ={}, flags={"align": {"embedding_dim": 16}, "als": {"factors": 8}}
)
BOTH = {"align": {"models": ["id_tower", "content_tower", *COUNT_MODELS], "epochs": 1}}


@pytest.fixture
def registry(tmp_path):
    fast = with_changes(with_preset(SETTINGS, "fast"), BOTH, "here")
    return ModelRegistry(Workspace.for_catalogue(tmp_path / "work", tmp_path), tmp_path / "variants", SETTINGS, fast)


def made(registry, name):
    (model,) = registry.models([name])
    assert model.name == name
    return model


def test_molar_is_as_the_settings_say_and_presets_are_as_they_are_named(registry):
    assert made(registry, OURS).options == SETTINGS
    assert made(registry, FAST).options == registry.fast
    for name in ("instant", "default", "best"):
        model = made(registry, f"molar ({name})")
        assert model.options == with_preset(SETTINGS, name)
        assert model.options.align.preset == name
        assert model.options.als.factors == 8, "a preset is of the alignment alone"
    assert not made(registry, "molar (instant)").options.align.towers
    assert {made(registry, name).kind for name in (OURS, FAST, "molar (best)")} == {"ours"}


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("ID tower alone", {"id_tower"}),
        ("content tower alone", {"content_tower"}),
        ("sequential component alone", {"sequential"}),
        ("EASE component alone", {"ease", "item_knn"}),
        ("content kNN component alone", {"content_knn"}),
        ("count models alone", {"sequential", "ease", "item_knn", "content_knn"}),
    ],
)
def test_a_part_is_molar_with_all_else_off(registry, name, models):
    model = made(registry, name)
    assert set(model.options.align.models) == models
    assert model.options.align.model_copy(update={"models": ()}) == SETTINGS.align.model_copy(update={"models": ()})
    assert model.kind == "baseline", "the whole has to beat it"
    assert name in PARTS


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("no ID tower", "models", EVERY - {"id_tower"}),
        ("no content tower", "models", EVERY - {"content_tower"}),
        ("no sequential component", "models", EVERY - {"sequential"}),
        ("no EASE component", "models", EVERY - {"ease", "item_knn"}),
        ("no content kNN component", "models", EVERY - {"content_knn"}),
        ("no popularity component", "models", EVERY - {"popularity"}),
        ("no count models", "models", {*TOWERS}),
        ("no alignment loss", "alignment_weight", 0.0),
    ],
)
def test_an_ablation_changes_one_setting_of_the_fast_ones(registry, name, field, value):
    model, fast = made(registry, name), registry.fast.align.model_dump()
    found = model.options.align.model_dump()
    assert {key for key in found if found[key] != fast[key]} == {field}
    assert (set(found[field]) if isinstance(value, set) else found[field]) == value
    assert (model.kind, name in ABLATIONS) == ("ablation", True)


@pytest.mark.parametrize("name", WITHOUT)
def test_molar_without_a_part_is_the_ablation_of_its_own_settings(registry, name):
    whole = ModelRegistry(registry.base, registry.variants, SETTINGS, SETTINGS)
    assert made(registry, name).settings == made(whole, WITHOUT[name]).settings != made(registry, OURS).settings
    assert made(registry, name).kind == "ablation"


@pytest.mark.parametrize(("name", "whole"), [("no re-ranking", FAST), (BY_SCORE, OURS)])
def test_without_re_ranking_is_the_same_training_not_asked(registry, name, whole):
    model, full = made(registry, name), made(registry, whole)
    assert (model.options, model.second_stage, full.second_stage) == (full.options, False, True)
    with pytest.raises(SettingsError, match="takes nothing away"):
        made(ModelRegistry(registry.base, registry.variants, *[with_preset(SETTINGS, "instant")] * 2), name)


def test_what_follows_later_is_asked_of_the_same_training(registry):
    model, full = made(registry, FUTURE), made(registry, OURS)
    assert (model.options, model.kind, model.objective, full.objective) == (full.options, "ours", "future_items", None)
    assert replace(model, name=OURS, objective=None) == full
    near = with_changes(SETTINGS, {"align": {"objectives": ["next_item"]}}, "here")
    with pytest.raises(SettingsError, match="has no weights"):
        made(ModelRegistry(registry.base, registry.variants, near, near), FUTURE)


def test_an_ablation_of_what_is_not_there_is_refused(registry):
    poor = ModelRegistry(registry.base, registry.variants, SETTINGS, with_preset(SETTINGS, "instant"))
    with pytest.raises(SettingsError, match="takes nothing away") as caught:
        poor.models(["no content tower"])
    assert "[fast]" in caught.value.hint


def test_fine_tuned_models_learn_all_three_tasks(registry):
    for name in ("molar (fine-tuned)", "content kNN (fine-tuned)"):
        tasks = made(registry, name).settings["finetune"]
        assert all(tasks[task] for task in ("image_text", "attributes", "behaviour"))
    assert made(registry, "molar (fine-tuned)").options == SETTINGS


def test_settings_tell_models_apart_and_are_plain(registry):
    models = registry.models([OURS, BY_SCORE, FUTURE, FAST, "molar (fine-tuned)", *PARTS, *ABLATIONS])
    told = [json.dumps(model.settings, sort_keys=True) for model in models]
    assert len(set(told)) == len(models)
    default = made(
        ModelRegistry(registry.base, registry.variants, with_preset(SETTINGS, "default"), registry.fast), OURS
    )
    assert default.settings == made(registry, "molar (default)").settings, (
        "the same training under two names is made once"
    )


def test_unknown_names_are_refused_with_the_nearest(registry):
    with pytest.raises(SettingsError) as caught:
        registry.models(["molar", "ID tover alone"])
    assert "'ID tower alone'" in caught.value.hint


@pytest.mark.parametrize("name", names())
def test_every_suite_names_models_that_there_are(registry, name):
    suite = load(name)
    fast = with_changes(with_preset(SETTINGS, "fast"), suite.fast, name)
    known = ModelRegistry(registry.base, registry.variants, SETTINGS, fast)
    if all(plan.split == PREQUENTIAL for plan in suite.splits):
        assert [arm.name for arm in arms(suite.models, SETTINGS)] == list(suite.models)
        return
    wanted = [suite.models, *(plan.models for plan in suite.splits)]
    models = [model for each in wanted for model in known.models(each)]
    assert any(model.name in (OURS, "content kNN (fine-tuned)") for model in models)
