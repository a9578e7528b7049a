"""What somebody's own tables mean: the proposal of ``molar init``."""

from molar_retrieval.proposal.propose import Proposal, propose
from molar_retrieval.proposal.questions import Question, Said

__all__ = ["Proposal", "Question", "Said", "propose"]
