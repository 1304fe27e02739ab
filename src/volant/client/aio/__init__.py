"""The asynchronous client. What asks one route after another is made from its synchronous twin: see volant.client.generate."""
