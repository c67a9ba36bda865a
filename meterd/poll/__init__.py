"""The heart: asks each device when its time has come, and hands what it said to the sinks.

May import model and errors, nothing else: it knows no register, no SQL and no HTTP.
Decided against: a task per device (two devices on one bus would fight for it), and
retries inside a poll (the next tick comes soon enough; backoff lives in bus.py).
"""
