"""Published data sets, in their official layouts, as catalogues that ``molar embed`` reads."""

from molar_retrieval.importers.report import ImportReport
from molar_retrieval.importers.run import import_dataset

__all__ = ["ImportReport", "import_dataset"]
