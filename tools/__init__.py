"""Helpers of the gate. Run as modules: `python -m tools.check_locks`."""
