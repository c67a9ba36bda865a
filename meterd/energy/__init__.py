"""Energy by hour, day, month and tariff, in the site's own time zone.

May import model and errors. Pure: what the counters rose by in each quarter hour comes in,
and sums go out, in integers of a thousandth of the unit, so that parts add up to the whole.
Decided against: floats (a year of quarter hours does not add up) and hourly steps (28 time zones
stand half or three quarters of an hour off).
"""
