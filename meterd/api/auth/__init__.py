"""Who is asking: tokens, passwords (Basic and Digest), and patience with those who guess.

A part of the API that knows no aiohttp, so that `meterd token` starts fast; may import what the
API may. Decided against: sessions and cookies (the browser keeps a password itself, and without
cookies there is nothing to ride on), MD5 digests, and a slow hash for tokens: 256 random bits
cannot be guessed, and a slow hash for each request would let anybody stop the poll loop.
"""
