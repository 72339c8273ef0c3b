"""A whole machine is firewalled: it boots by systemd with the Debian package installed, in `make vm-test` only.

Each file is one boot and its tests go on where the one before left off, so here order matters: the first that fails is
the last that runs. What the next boot shall find is left behind by the last test of a file.
"""
