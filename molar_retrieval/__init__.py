"""Molar: content vectors, collaborative factors and their alignment, from a catalogue to an answer."""

__version__ = "0.1.0"
