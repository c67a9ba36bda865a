"""What a commit writes first: the log of records, the file WAL over it, and the spool.

The WAL in a table of the database is written by `compaction.session`; its rows have the bodies of
`blocks.commit_record`, as the records of the files do. May import `head`, `db` and `blocks`.
"""
