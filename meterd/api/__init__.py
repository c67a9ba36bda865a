"""The HTTP side: REST, problem+json, OpenAPI, the Prometheus exposition and the live page.

May import daemon and everything below it; cli starts it, lazily, because aiohttp is heavy.
Decision: docs/decisions/0016.
"""
