"""Artifacts once they are built: published, examined, compared, sent, removed."""
