"""The `gridplane` command, one file per verb. Tests: `tests/cli/`."""
