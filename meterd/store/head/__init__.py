"""The head: polls in memory that no block holds yet, and the catalogue of devices and series.

Written from the event loop, read by queries and by the store's thread. May import `blocks` and
`db`. A batch is bounded, so that whatever is done with one takes a bounded time.
"""
