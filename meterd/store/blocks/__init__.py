"""Formats of commit records, blocks and roll-ups: encoders and decoders (docs/format in each file).

May import errors, numpy and itself: no SQL, no files, no threads, no clock, nothing of the room.
Each body begins with the number of its format and ends with a checksum (checksum.py).
Decided against: pcodec and zstd (5 % smaller, and a compiled wheel more), and hourly roll-ups
(28 time zones since 2000 stood at :30 or :45).
"""
