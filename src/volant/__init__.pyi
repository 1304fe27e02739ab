from volant.client.aio.client import AsyncClient as AsyncClient
from volant.client.client import Client as Client

__version__: str
