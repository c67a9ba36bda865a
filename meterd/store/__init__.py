"""The store: keeps every sample, loses nothing that a commit confirmed, answers history.

`writer` takes polls and `reader` answers; both are what the rest of meterd holds. Below them:

    tools                         check, backup, move, import, export, correct, compact
    writer
    engine                        the store's thread
    cluster | reader              leases of devices; answers
    compaction | query | wal      head → blocks; ranges; commit log and spool
    head                          polls in memory, catalogue of devices and series
    db                            SQLite, PostgreSQL, MariaDB, schema
    blocks                        bytes of blocks, roll-ups and commit records

Each may import what stands below it (pyproject.toml proves it), and model and errors; nothing from
poll, drivers or config, and no asyncio in the thread.
Decision: docs/decisions/0003.
"""
