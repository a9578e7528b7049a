"""Metrics of ranked lists: accuracy per case, and what the lists are like."""
