"""The HTTP side: REST, problem+json, OpenAPI, the Prometheus exposition and the live page.

May import daemon and everything below it; cli starts it, lazily, because aiohttp is heavy.
Decided against: validating answers at run time (tests do it; `latest` has to be cheap),
aiohttp's static files (a fixed table of assets cannot be walked out of), and a second
description of the routes: handlers and OpenAPI both come from the table in routes.py.
"""
