"""Acts. Observe → decide → gate → write → verify; the only home of concurrency and durable state.

Imported by `cli` (and by the cluster controller). Tests: `tests/engine/`, `tests/scenarios/`.
"""
