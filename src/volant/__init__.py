"""Volant: microVMs as easy as containers.

>>> import volant
>>> with_defaults = volant.Client()  # volant.AsyncClient has the same methods, to be awaited
"""

from importlib import import_module

__version__ = "0.1.0"

_CLIENTS = {"Client": "volant.client.client", "AsyncClient": "volant.client.aio.client"}
"""Loaded when they are wanted: everything of ours imports this module, and a command has no time to lose."""


def __getattr__(name: str) -> object:
    if name in _CLIENTS:
        return getattr(import_module(_CLIENTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
