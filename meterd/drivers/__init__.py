"""What a device means by its bytes: drivers, found by entry point, and register maps.

May import wire, model and errors. A driver is one small class without loop, retry, clock
or log; tables (maps/*.yaml, Field rows) are data, code is for what a table cannot say.
Decision: docs/decisions/0009.
"""
