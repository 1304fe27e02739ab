"""Dockerfiles, built by buildah out of the host's sight."""
