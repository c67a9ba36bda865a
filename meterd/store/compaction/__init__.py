"""From the head to blocks: hours, days with their roll-ups, latest rows, and what is deleted.

`session` is the store open for writing, with every statement that writes; a `write_batch` is what
one of its transactions changes. In the store's thread only. May import `head`, `db` and `blocks`.
"""
