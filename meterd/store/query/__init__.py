"""Answers of history: ranges, buckets, counters' days, out of blocks, roll-ups and the head.

Reads only, in short transactions of worker threads. May import `head`, `db` and `blocks`.
"""
