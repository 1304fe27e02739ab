"""A whole guest in one cpio archive."""
