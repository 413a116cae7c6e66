"""What people see: plans, tables, explanations and summaries, as text and as data.

Imported by `cli`. Tests: `tests/views/`.
"""
