"""Energy by hour, day, month and tariff, in the site's own time zone.

May import model and errors. Pure: what the counters rose by in each quarter hour comes in,
and sums go out, in integers of a thousandth of the unit, so that parts add up to the whole.
Decision: docs/decisions/0005.
"""
