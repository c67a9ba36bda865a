"""The data model: quantities, units, readings, samples, polls, events, alerts, clocks.

May import errors and the standard library, nothing else, as every room imports it.
Decision: docs/decisions/0008.
"""
