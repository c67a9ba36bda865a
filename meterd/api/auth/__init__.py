"""Who is asking: tokens, passwords (Basic and Digest), and patience with those who guess.

A part of the API that knows no aiohttp, so that `meterd token` starts fast; may import what the
API may.
Decision: docs/decisions/0018.
"""
