"""The SDK: what a program says to volantd.

``from volant.client.client import Client``; modules are imported one by one, so that a command loads only what it needs.
"""
