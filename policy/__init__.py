"""The policy pack: the rule table of `control_plane.provision`, asked about each stack by Pulumi."""
