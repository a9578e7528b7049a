"""Experiments with people: what is tried, who sees what, and what is on record."""
