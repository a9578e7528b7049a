"""The embedding pipeline: reader, encoder, writer; resumable, incremental, in bounded memory."""

from molar_retrieval.embedding.contents import ContentVectors
from molar_retrieval.embedding.forecast import EmbedForecast, dry_run
from molar_retrieval.embedding.report import EmbedReport
from molar_retrieval.embedding.run import embed

__all__ = ["ContentVectors", "EmbedForecast", "EmbedReport", "dry_run", "embed"]
