"""Every setting, and every field of a record, that may name a host, a file, a program or a secret is classified.

A new one fails here until somebody has decided: it is marked as trusted, so that no file that travels with data sets
it, or it stands below with the reason why it may come from such a file.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import MolarSettings, Settings, is_trusted

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / one for one in ("molar_retrieval", "indexes", "eval", "cli", "serving")]
NAMES = re.compile(
    "(^|_)(hosts?|urls?|uri|address(es)?|endpoint|server|ports?|paths?|files?|folders?|dir|command|program|python"
    "|interpreter|tokens?|secrets?|keys?|password|scratch|goes|instead|into|beside|elsewhere)(_|$)"
)
WORDS = re.compile(
    r"\b(host|url|address|server|path|file|folder|program|token|secret|http|https|model)\b", re.IGNORECASE
)
READS = re.compile(r"json\.load|read_toml|Manifest\.read|\.manifest\b|read_account")

BELOW = "a path below the catalogue; whatever leads out of it is refused"
NUMBER = "a number, a truth or one of a few words"
COLUMN = "the name of a column"
ENCODING = "the name of an encoding"
VALUES = {"address": "ray://a:1", "grpc_port": 7, "host": "0.0.0.0", "key_over_http": True, "url": "http://a:1"}
SETTINGS = {
    "EmbedSettings.model": "weights, read as tensors: code that it brings needs --trust-remote-code",
    "EmbedSettings.prompt": "words for the model",
    "EmbedSettings.revision": "a version of a model at the hub, which the environment names",
    "EmbedSettings.offline": NUMBER,
    "EmbedSettings.photos": NUMBER,
    "EmbedSettings.max_text_tokens": NUMBER,
    "AlignSettings.batch_tokens": NUMBER,
    "LoraSettings.merged": NUMBER,
    "ExperimentSettings.watch": NUMBER,
    "IndexSettings.fallback": NUMBER,
    "IndexSettings.shards": NUMBER,
    "IndexSettings.uploads": NUMBER,
    "ServeSettings.port": "where this machine listens; at which address is trusted",
    "ItemSettings.file": BELOW,
    "ItemSettings.image": COLUMN,
    "ItemSettings.images": BELOW,
    "ItemSettings.decimal": NUMBER,
    "ItemSettings.encoding": ENCODING,
    "FileSettings.file": BELOW,
    "FileSettings.encoding": ENCODING,
    "InteractionSettings.file": BELOW,
    "InteractionSettings.encoding": ENCODING,
    "InteractionSettings.decimal": NUMBER,
    "UserSettings.file": BELOW,
    "UserSettings.encoding": ENCODING,
    "PrimaryComparison.model": "the name of a model of the evaluation",
}
MADE = "of an object that the program makes, never filled from a file"
STAMPS = "names below the catalogue or the version, of which sizes and times are compared"
ID = "a digest, an id, a name or a count"
INSIDE = "refused where it leads out of the folder"
SHOWN = "shown to people, and not followed"
RECORDS = {
    "cli/molar/doctor/workspace.py": {"files": STAMPS},
    "cli/molar/findings.py": {"KeptFinding.key": ID, "key": ID},
    "cli/molar/reports.py": {"KeptReport.page": "found by a look into the workspace; links out of it are left out"},
    "eval/molar_eval/experiments/covariates.py": {"PastPurchases.keys": ID, "_PricedFile.keys": ID},
    "eval/molar_eval/experiments/interleaving.py": {"_Credited.keys": ID},
    "eval/molar_eval/kpi/by_day.py": {"key": ID},
    "eval/molar_eval/model_runs.py": {"RankingJob.files": MADE, "RankingJob.folder": MADE, "TrialRunner.cache": MADE},
    "eval/molar_eval/prequential.py": {"WalkRunner.root": MADE},
    "indexes/molar_indexes/backup.py": {
        **dict.fromkeys(("Backup.file", "Restored.folder", "_Member.path", "_Packed.file"), MADE),
        "Backup.files": ID,
    },
    "indexes/molar_indexes/device/export.py": {"DeviceExport.folder": MADE},
    "indexes/molar_indexes/generations.py": {"Generation.folder": MADE},
    "indexes/molar_indexes/privacy/certificate.py": {
        "Certificate.files": SHOWN, "ScanSum.files": ID, "ScannedFile.file": SHOWN, "files": SHOWN,
    },
    "indexes/molar_indexes/privacy/stored.py": {
        "KnownPerson.keys": ID, "KnownPerson.rows": MADE, "KnownPerson.evaluations": MADE,
    },
    "indexes/molar_indexes/privacy/report/facts.py": {"keys": ID},
    "indexes/molar_indexes/privacy/report/page.py": {
        "FactLine.key": ID, "PrivacyReport.page": MADE, "PrivacyReport.facts": MADE, "PrivacyReport.filled": MADE,
    },
    "indexes/molar_indexes/search.py": {"max_text_tokens": ID},
    "indexes/molar_indexes/server/client.py": {"Connection.server": MADE, "Spoken.grpc_port": MADE},
    "indexes/molar_indexes/privacy/key_rotation.py": {
        "RotationReport.files": ID, "RotationReport.key_file": SHOWN, "RotationReport.keys": ID, "files": ID,
        "instead": ID, "key_file": SHOWN, "keys": ID,
        "RenamedFiles.goes": INSIDE, "RenamedFiles.instead": INSIDE, "RenamedFiles.into": INSIDE,
    },
    "indexes/molar_indexes/batch.py": dict.fromkeys(
        (
            "RecommendReport.path", "_ListsJob.folder", "_ListsJob.rules", "_ListsJob.server", "_ListsJob.workspace",
        ),
        MADE,
    ),
    "indexes/molar_indexes/server/opening.py": {"url": "compared with the server that the user has named"},
    "molar_retrieval/models/alignment.py": {
        "AlignReport.folder": MADE, "TrainingJob.folder": MADE, "TrainingJob.root": MADE,
    },
    "eval/molar_eval/models/peers/peer.py": dict.fromkeys(
        ("Peer.environments", "PeerScorer.files", "PeerScorer.folder"), MADE
    ),
    "molar_retrieval/models/refresh.py": {"RefreshReport.folder": MADE, "_Base.folder": MADE},
    "molar_retrieval/workspace/discovery.py": {
        **dict.fromkeys(
            ("WorkspaceRecord.beside", "WorkspaceRecord.catalogue", "beside"), "the shop itself, which is read"
        ),
        "files": STAMPS,
    },
    "molar_retrieval/data/catalogue.py": {"folder": ID},
    "molar_retrieval/data/image_decoder.py": dict.fromkeys(("path", "paths"), "a request of the parent process"),
    "molar_retrieval/data/importers/formats.py": dict.fromkeys(
        ("PublishedData.photos", "PublishedTable.path"), "a file of the folder that is imported"
    ),
    "molar_retrieval/data/prepare.py": {"files": STAMPS},
    "molar_retrieval/embedding/vector_cache.py": {"PreviousVectors.folder": MADE, "key": ID},
    "molar_retrieval/embedding/content_vectors.py": {"EmbedReport.folder": MADE, "key": ID},
    "molar_retrieval/embedding/external.py": {"key": ID},
    "molar_retrieval/embedding/pipeline.py": {
        "EncodeJob.catalogue": MADE, "EncodeJob.folder": MADE, "EncodeJob.texts": MADE, "key": ID,
    },
    "molar_retrieval/encoders/sentence.py": {
        "base_model_name_or_path": SETTINGS["EmbedSettings.model"], "max_text_tokens": NUMBER,
    },
    "molar_retrieval/encoders/checkpoint.py": {
        "Checkpoint.complete": MADE, "Checkpoint.folder": MADE, "path": SETTINGS["EmbedSettings.model"],
    },
    "molar_retrieval/data/event_log.py": {"CompactResult.sealed_files": ID},
    "molar_retrieval/privacy/pseudonyms.py": {"Pseudonymiser.keys": MADE, "key_file": SHOWN, "keys": ID},
    "molar_retrieval/privacy/suppression.py": {"SuppressionList.file": MADE, "file": SHOWN},
    "molar_retrieval/privacy/id_scan.py": {
        "FileMatches.file": SHOWN, "ScanReport.files": SHOWN, "ScanReport.server": SHOWN,
    },
    "molar_retrieval/privacy/retention.py": {"KeptCopy.path": MADE},
    "molar_retrieval/privacy/statistics.py": {"SharedStatistics.path": MADE},
    "molar_retrieval/privacy/federated.py": {"SharedFile.path": MADE},
    "serving/molar_serving/auth.py": {
        "keys": "digests of keys that the server accepts; it sends none", "host": "a header of a request",
        "server": "the socket of a request",
    },
}  # fmt: skip


def models() -> Iterator[type[Settings]]:
    for path in (path for source in SOURCES for path in source.rglob("*.py")):
        if re.search(r"^class \w+\((\w*Settings)\):", path.read_text("utf-8"), re.MULTILINE):
            inner = path.relative_to(ROOT)
            parts = inner.parts if inner.parts[0] == "molar_retrieval" else inner.parts[1:]
            importlib.import_module(".".join(parts).removesuffix(".py"))
    waiting = [Settings]
    while waiting:
        found = waiting.pop().__subclasses__()
        waiting += found
        yield from found


def may_name(name: str, field: FieldInfo) -> bool:
    by_type = "Path" in repr(field.annotation) or bool(field.metadata and "addresses" in repr(field.metadata))
    return by_type or NAMES.search(name) is not None or WORDS.search(field.description or "") is not None


def test_every_setting_that_may_name_a_host_a_file_or_a_secret_is_classified() -> None:
    found = {
        f"{model.__name__}.{name}": is_trusted(one)
        for model in models()
        if not model.__name__.startswith("_")  # the same fields once more
        for name, one in model.model_fields.items()
        if is_trusted(one) or may_name(name, one)
    }
    assert found.keys() - SETTINGS.keys() == {name for name, marked in found.items() if marked}
    assert SETTINGS.keys() <= found.keys(), "it is gone, or trusted now"
    assert {"IndexSettings.url", "ClusterSettings.address", "ClusterSettings.token_file"} <= found.keys()


@pytest.mark.parametrize("section", [name for name in MolarSettings.model_fields])
def test_what_is_trusted_is_refused_in_a_file_and_taken_from_the_user(
    section: str, tmp_path: Path, user_configuration: Callable[[str], Path]
) -> None:
    own = type(getattr(MolarSettings(), section)).model_fields
    for key in (name for name, field in own.items() if is_trusted(field)):
        value = VALUES.get(key, f"{tmp_path}/file")
        line = f"[{section}]\n{key} = {json.dumps(value)}\n"
        (tmp_path / "molar.toml").write_text(line)
        with pytest.raises(SettingsError, match=rf"molar\.toml: {section}\.{key}") as told:
            MolarSettings.load(tmp_path)
        assert f"MOLAR_{section.upper()}_{key.upper()}" in told.value.hint
        (tmp_path / "molar.toml").unlink()
        user_configuration(line)
        assert str(getattr(getattr(MolarSettings.load(tmp_path), section), key)) == str(value)


def fields(text: str) -> Iterator[str]:
    """Keys that a module reads of records by name, and fields of its dataclasses, that may name such a thing."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Subscript(slice=ast.Constant(value=str(key))) if NAMES.search(key):
                yield key
            case ast.Call(func=ast.Attribute(attr="get" | "pop"), args=[ast.Constant(value=str(key)), *_]):
                if NAMES.search(key):
                    yield key
            case ast.ClassDef(name=name, decorator_list=[_, *_]):
                if "dataclass" in "".join(map(ast.dump, node.decorator_list)):
                    own = [one for one in node.body if isinstance(one, ast.AnnAssign)]
                    named = [(ast.unparse(one.target), ast.unparse(one.annotation)) for one in own]
                    yield from (f"{name}.{one}" for one, kind in named if NAMES.search(one) or "Path" in kind)


def test_every_field_of_a_record_that_may_name_such_a_thing_is_classified() -> None:
    found: dict[str, set[str]] = {}
    for path in (path for source in SOURCES for path in source.rglob("*.py")):
        text = path.read_text("utf-8")
        if READS.search(text) and (own := set(fields(text))):
            found[path.relative_to(ROOT).as_posix()] = own
    assert found == {module: set(names) for module, names in RECORDS.items()}
