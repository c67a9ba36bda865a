"""UPSes that speak Megatec (Q1) or Mustek (QS): options, lines, letters, battery, orders.

May import wire, model and errors; knows no loop, no clock and no other driver.
Decided against: cutting the status line by position (padded firmware shifts it), integrating
the runtime (a driver has no clock), sending C, S, T or Q unasked (a query must not act), and
sending an order twice (each S starts its countdown anew).
"""

from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.ups import MegatecUps

__all__ = ["MegatecOptions", "MegatecUps"]
