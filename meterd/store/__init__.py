"""The store room: keeps every sample, loses nothing that a commit confirmed, answers history.

`format/` is the bytes, `tools/` what people do to a whole store; here are the writer (with its
worker, keeper and ledger), the reader, and the databases. May import model and errors; nothing
from poll, drivers or config, and no asyncio in the thread. Decided against: aiosqlite (three
times the CPU, and one thread more than is needed), the ORM (20 times), a table keyed (series,
time) (up to 630 times the writes on flash), and a unit that changes under one series.
"""
