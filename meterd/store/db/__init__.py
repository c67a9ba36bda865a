"""Databases of the store: SQLite, PostgreSQL, MariaDB; schema, keys, migrations, views, locks.

One row at a time, and whole files; knows nothing of polls. Every error of a driver or of the file
system becomes a StoreError here. May import `blocks` (quality numbers, times of hours and days).
Decisions: docs/decisions/0003, docs/decisions/0004.
"""
