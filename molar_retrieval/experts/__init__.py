"""Experts: models of what is taken together, taken next and in demand, each in closed form; nothing is trained."""
