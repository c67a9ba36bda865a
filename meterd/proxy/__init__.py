"""Modbus TCP proxy: a read-only server for other programs, with recent polls as its cache.

May import all rooms below it; api and sim are beside it.
Decision: docs/decisions/0019.
"""
