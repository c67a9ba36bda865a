"""UPSes that speak Megatec (Q1) or Mustek (QS): options, lines, letters, battery, orders.

May import wire, model and errors; knows no loop and no other driver, and one monotonic clock:
while a battery is charged its voltage says 100 %, so only time tells how full it may be.
Decision: docs/decisions/0010.
"""

from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.ups import MegatecUps

__all__ = ["MegatecOptions", "MegatecUps"]
