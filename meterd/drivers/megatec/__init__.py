"""UPSes that speak Megatec (Q1) or Mustek (QS): options, lines, status letters, battery.

May import wire, model and errors; knows no loop, no clock and no other driver.
Decided against: cutting the status line by position (padded firmware shifts it), integrating
the runtime (a driver has no clock), and ever sending C, S, T or Q (a query must not act).
"""

from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.ups import MegatecUps

__all__ = ["MegatecOptions", "MegatecUps"]
