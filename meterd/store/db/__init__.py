"""Databases of the store: SQLite, PostgreSQL, MariaDB; schema, keys, migrations, views, locks.

One row at a time, and whole files; knows nothing of polls. Every error of a driver or of the file
system becomes a StoreError here. May import `blocks` (quality numbers, times of hours and days).
Decided against: aiosqlite (three times the CPU, and one thread more than is needed), the ORM
(20 times), and a table keyed (series, time) (up to 630 times the writes on flash).
"""
