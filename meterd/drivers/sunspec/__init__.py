"""SunSpec devices: where their chain of models begins, which models it holds, what these say.

May import wire, model, errors and the drivers' register maps; knows no other driver.
Decided against: definitions of all hundred models (an unknown one is skipped by its length),
reading what follows a model whose length is a lie as if it were known, and mixing the meter
and the inverter behind one address into one device (each is a part, and a device of its own).
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
