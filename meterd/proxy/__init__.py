"""A read-only Modbus TCP server for other programs, fed by what the links carry anyway.

May import everything below it, as api and sim may, which it never sees.
Decision: docs/decisions/0019.
"""
