"""Registries: images and plugins over the OCI distribution API (distribution-spec v1.1), for fledge and volantd.

reference.py says where something is, settings.py by which ways one may go there, exchange.py asks (authority.py and
credentials.py for leave, destination.py where a redirect may lead, patience.py how often), documents.py is what comes back;
resolve.py, download.py, layout.py and upload.py are what is done with it, client.py is the door.
"""
