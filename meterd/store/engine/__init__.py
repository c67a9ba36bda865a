"""The store's thread: commits on time, compaction between them, and what is done when it fails.

`store_thread` is the loop, `storage_engine` the store as that thread has it open, `spool_policy`
what becomes of polls while it cannot be written. May import all of the store but `writer`,
`reader` and `tools`.
"""
