"""Simulators: Modbus meters and a Megatec UPS on a pty, with fault injection and replay.

The meters' values are a measured household.

May import drivers (for the register maps), model and errors; wire and config are for clients.
Decision: docs/decisions/0020.
"""
