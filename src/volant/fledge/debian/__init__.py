"""Debian packages: found through apt, locked, kept by digest, installed by mmdebstrap."""
