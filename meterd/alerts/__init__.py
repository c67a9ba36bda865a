"""Alerting: threshold rules evaluated on each poll, silences, acknowledgements, and hooks.

May import model and errors; knows no settings, no store and no device. rules.py is pure (times
are arguments, state changes are results), engine.py is the sink, hooks/ has a file per channel.
Decided against: queries of the store (a rule sees polls as they come, also when the disk is full),
expressions (a threshold with hysteresis can be checked when it is written), and one queue for
all hooks (a receiver that hangs would hold up the others).
"""
