"""Reads. The files of an inventory → a `core.fleet.Fleet`, or every Finding at once.

Imported by `cli` and `engine`. Tests: `tests/inventory/`.
"""
