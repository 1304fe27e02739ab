"""Volant: microVMs as easy as containers."""

__version__ = "0.1.0"
