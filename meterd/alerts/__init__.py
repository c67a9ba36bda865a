"""Rules over polls, and the hooks that tell of them.

May import model and errors; knows no settings, no store and no device. rules.py is pure (time
comes in, changes come out), engine.py is the sink, hooks/ has one file a channel.
Decision: docs/decisions/0015.
"""
