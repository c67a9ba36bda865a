"""Energy per hour, day, week, month and year, and its cost by tariff, in the site's time zone.

May import model and errors. Pure: input are the increases of counters per quarter hour, output
are sums, in integers of a thousandth of the unit, so that parts add up to the whole exactly.
Decision: docs/decisions/0005.
"""
