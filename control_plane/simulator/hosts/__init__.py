"""Simulated machines behind a real SSH server: files, systemd units, a kernel, reboots, installers.

`machine` is one of them, `programs` what it can run, `kubernetes` the cluster that installers make, `sshd`
the server. They know what kubeadm, RKE2 and kubectl do from their documentation, not from our own code.
"""
