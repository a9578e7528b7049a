"""Published data sets, in their official layouts, as catalogues that ``molar embed`` reads."""

from molar_retrieval.data.importers.run import ImportReport, import_dataset

__all__ = ["ImportReport", "import_dataset"]
