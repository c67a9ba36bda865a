"""Alerting: threshold rules evaluated on each poll, silences, acknowledgements, and hooks.

May import model and errors; knows no settings, no store and no device. rules.py is pure (times
are arguments, state changes are results), engine.py is the sink, hooks/ has a file per channel.
Decision: docs/decisions/0015.
"""
