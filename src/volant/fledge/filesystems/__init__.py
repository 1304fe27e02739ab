"""One module a file system: how a tree is written as it, and what it cannot hold."""
