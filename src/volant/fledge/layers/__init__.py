"""The layers of an image become a tree."""
