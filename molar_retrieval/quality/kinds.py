"""All kinds of fault that a check knows."""

from molar_retrieval.quality.findings import Kind


def all_kinds() -> tuple[Kind, ...]:
    """Every kind, in the order in which a document lists them."""
    from molar_retrieval.quality import attributes, log, mismatch, personal, photos, rejected, texts

    modules = (rejected, photos, texts, mismatch, attributes, log, personal)
    return tuple(kind for module in modules for kind in module.KINDS)
