"""Rules over polls, and the hooks that tell of them.

May import model and errors; knows no settings, no store and no device. rules.py is pure (time
comes in, changes come out), engine.py is the sink, hooks/ has one file a channel.
Decided against: asking the store (a rule sees polls as they come, also when the disk is full),
expressions (a threshold with hysteresis can be checked when it is written), and one queue for
all hooks (a receiver that hangs would hold up the others).
"""
