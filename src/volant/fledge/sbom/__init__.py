"""What is inside an artifact: the packages that its root tree tells of, and the SPDX document that lists them.

Start at ``scan.py`` (a tree to packages) and ``spdx.py`` (packages to a document).
"""
