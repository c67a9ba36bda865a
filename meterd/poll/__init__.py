"""The heart: asks each device when its time has come, and hands what it said to the sinks.

May import model and errors, nothing else: it knows no register, no SQL and no HTTP.
Decision: docs/decisions/0007.
"""
