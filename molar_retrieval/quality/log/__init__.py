"""What is wrong with an interaction log, and what it is like."""

from molar_retrieval.quality.log.check import check_log
from molar_retrieval.quality.log.summary import LogSummary

__all__ = ["LogSummary", "check_log"]
