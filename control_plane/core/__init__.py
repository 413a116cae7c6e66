"""Thinks. Values and functions only: the same inputs give the same plan, every time.

No clock, no I/O, no randomness: time and limits are arguments. Imported by every other package;
imports none of them. Tests: `tests/core/`.
"""
