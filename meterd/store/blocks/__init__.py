"""Formats of commit records, blocks and roll-ups: encoders and decoders (docs/format in each file).

May import errors, numpy and itself: no SQL, no files, no threads, no clock, nothing of the room.
Each body begins with the number of its format and ends with a checksum (checksum.py).
Decisions: docs/decisions/0003, docs/decisions/0005.
"""
