"""What only people can say in a report on privacy, in a file of theirs, ``filled.toml``, which is never overwritten."""

from pathlib import Path

from molar_retrieval.errors import SettingsError, suggestion
from molar_retrieval.reports.wording import PageWords
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.files import write_atomically

BLANKS = {
    "data": {"controller": "management", "purposes": "management", "legal_basis": "legal", "recipients": "management"},
    "copies": {"transfers": "legal", "backups": "technical"},
    "retention": {"periods": "legal"},
    "measures": {"other_measures": "technical"},
    "risks": {"necessity": "legal", "officer": "officer", "decision": "management"},
    "model": {"intended_use": "management", "contact": "management"},
    "ranking": {"sign_off": "management"},
}
"""By section, what is to be filled in, and by whom."""


def filled_in(path: Path, t: PageWords) -> dict[str, str]:
    """What people have written so far; the file is made where there is none, with a line for each blank.

    Raises:
        SettingsError: If it is no TOML, has another key, or something else than text.
    """
    names = [name for blanks in BLANKS.values() for name in blanks]
    if not path.exists():
        write_atomically(path, _empty(t))
    values = read_toml(path)
    for name, value in values.items():
        if name not in names:
            raise SettingsError(f"{path}: unknown key {name!r}", suggestion(name, names, "remove it"))
        if not isinstance(value, str):
            raise SettingsError(f"{path}: {name} is no text", "write it between quotes")
    return {name: values.get(name, "").strip() for name in names}


def _empty(t: PageWords) -> str:
    lines = [f"# {t('filled_is')}", ""]
    for blanks in BLANKS.values():
        for name, who in blanks.items():
            lines += [f"# {t(f'blank_{name}')} ({t('to_fill', who=t(f'who_{who}'))})", f'{name} = ""', ""]
    return "\n".join(lines)
