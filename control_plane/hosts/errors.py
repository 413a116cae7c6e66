"""What goes wrong with one host, in the error tree of core: each names the host, and who acts next."""

from __future__ import annotations

from control_plane.core.errors import AuthRejected, DeviceError, Indeterminate, WrongIdentity


class HostKeyUnknown(WrongIdentity):
    """No key is pinned for the host. The operator compares and pins it; nothing was sent but a greeting."""


class HostKeyChanged(WrongIdentity):
    """The host shows another key than the pinned one. The operator finds out why; nothing was touched."""


class LoginRefused(AuthRejected):
    """The host is who it should be, and does not let us in. Whoever installs login keys acts."""


class CommandFailed(DeviceError):
    """A command on the host ended with an error; holds its last words, without secrets."""


class HostUnfit(DeviceError):
    """The host is not as it has to be, and making it so is not ours to decide. Its owner acts."""


class DeadlinePassed(Indeterminate):
    """A command did not end in time, or the connection broke under it: it may go on over there."""


class LineBroke(DeadlinePassed):
    """The connection broke under a command. It takes that for the end of its input, and goes on."""
