"""`catalog.toml` as a proposal says it."""

from pathlib import Path

from molar_retrieval.catalog.spec import FILE_NAME
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.proposal.propose import Proposal
from molar_retrieval.toml import toml_value

_HEAD = "# What the tables mean: proposed by `molar init`, to be changed by hand; docs/catalogue.md lists all keys.\n"


def text_of(proposal: Proposal) -> str:
    """The file, in TOML."""
    lines = [_HEAD]
    for section, values in proposal.sections.items():
        lines += [f"[{section}]", *(f"{key} = {toml_value(key, value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def write(proposal: Proposal, *, overwrite: bool) -> Path:
    """Write the file, unless it says the same already; a SettingsError where another one would have to be replaced."""
    path, text = proposal.folder / FILE_NAME, text_of(proposal)
    try:
        if path.exists():
            if path.read_bytes() == text.encode():
                return path
            if not overwrite:
                hint = "keep it, or replace it: --overwrite"
                raise SettingsError(f"{path} is there, and says something else", hint)
        partial = path.with_name(f"{FILE_NAME}.partial")
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}", "make the folder writable") from error
    return path
