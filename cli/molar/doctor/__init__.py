"""`molar doctor`: what this installation, machine and workspace are like, and what is wrong with them."""

from molar.doctor.examine import examine
from molar.doctor.findings import Entry, Health, Section, State

__all__ = ["Entry", "Health", "Section", "State", "examine"]
