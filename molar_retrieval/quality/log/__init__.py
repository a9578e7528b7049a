"""What is wrong with an interaction log, and what it is like."""

from molar_retrieval.quality.log.check import LogReport, check_log
from molar_retrieval.quality.log.kinds import KINDS
from molar_retrieval.quality.log.outlook import SplitOutlook
from molar_retrieval.quality.log.summary import LogSummary

__all__ = ["KINDS", "LogReport", "LogSummary", "SplitOutlook", "check_log"]
