"""SunSpec devices: where their chain of models begins, which models it holds, what these say.

May import wire, model, errors and the drivers' register maps; knows no other driver.
Decision: docs/decisions/0011.
"""
