"""UPSes that speak Megatec (Q1) or Mustek (QS): options, lines, letters, battery, orders.

May import wire, model and errors; knows no loop and no other driver, and one monotonic clock:
while a battery is charged its voltage says 100 %, so only time tells how full it may be.
Decided against: cutting the status line by position (padded firmware shifts it), integrating
what was taken out (the voltage tells of old batteries, too), sending C, S, T or Q unasked (a
query must not act), and sending an order twice (each S starts its countdown anew).
"""

from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.ups import MegatecUps

__all__ = ["MegatecOptions", "MegatecUps"]
