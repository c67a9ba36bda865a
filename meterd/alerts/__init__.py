"""Alerting: threshold rules evaluated on each poll, silences, acknowledgements, and hooks.

May import model and errors; knows no settings, no store and no device. rule_states.py is pure
(times are arguments, state changes are results), engine.py is the sink, hooks/ has a file for each
channel.
Decision: docs/decisions/0015.
"""
