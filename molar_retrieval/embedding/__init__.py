"""The embedding pipeline: reader, encoder, writer; resumable, incremental, in bounded memory."""

from molar_retrieval.embedding.content_vectors import ContentVectors, EmbedReport
from molar_retrieval.embedding.estimate import EmbedForecast, dry_run
from molar_retrieval.embedding.run import embed

__all__ = ["ContentVectors", "EmbedForecast", "EmbedReport", "dry_run", "embed"]
