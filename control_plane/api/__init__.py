"""The one source of schema: typed document classes, version v1alpha1.

JSON Schema (for editors and validation) and the schema reference are generated from them.
Imported by `inventory` and `simulator`; imports nothing of gridplane. Tests: `tests/api/`.
"""
