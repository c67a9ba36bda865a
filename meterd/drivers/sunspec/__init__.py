"""SunSpec devices: where their chain of models begins, which models it holds, what these say.

May import wire, model, errors and the drivers' register maps; knows no other driver.
Decision: docs/decisions/0011.
"""

from meterd.drivers.sunspec.discovery import FoundModel, ModelSurvey, survey
from meterd.drivers.sunspec.meter import SunSpecMeter
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.drivers.sunspec.parts import SunSpecPart, parts

__all__ = [
    "FoundModel",
    "ModelSurvey",
    "SunSpecMeter",
    "SunSpecOptions",
    "SunSpecPart",
    "parts",
    "survey",
]
