"""`pulumi-resource-gridplane`, and `python -m control_plane.provider`."""

from control_plane.provider.server import main

if __name__ == "__main__":
    raise SystemExit(main())
