"""Touches. One file per firmware family, behind the `Driver` port of `core.ports`.

Translates vendor words, units and failures into those of `core`, so that no other layer knows a
vendor. Imported by `engine` and `cli` (through the registry). Tests: `tests/drivers/`.
"""
