"""Energy per hour, day, week, month and year, and its cost by tariff, in the site's time zone.

May import model and errors. Pure: input are the increases of counters per quarter hour, output
are sums, in integers of a thousandth of the unit, so that parts add up to the whole exactly.
Decided against: floats (a year of quarter hours does not add up) and hourly steps (28 time zones
are half or three quarters of an hour off UTC).
"""
