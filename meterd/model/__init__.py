"""The data model: quantities, units, readings, samples, polls, events, alerts, clocks.

May import errors and the standard library, nothing else, as every room imports it.
Decided against: a class per quantity, and units as objects. A table of names is what
people look up, and conversion happens once, in poll/normalise.py.
"""
