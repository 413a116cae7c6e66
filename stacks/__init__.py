"""The Pulumi program: the thin last step. What it declares is decided in `control_plane.provision`."""
