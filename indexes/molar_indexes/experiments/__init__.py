"""Experiments as they answer: who is in which, what the arms show them, and what is written down of it."""
