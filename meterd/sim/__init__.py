"""Simulators: Modbus meters and a Megatec UPS on a pty, with fault injection and replay.

The meters' values are a measured household.

May import drivers (for the register maps), model and errors; wire and config are for clients.
Decided against: pymodbus' server, and encoding by the drivers' own decoder. What tests meterd
must not share its mistakes, so framing, CRC and encoding are implemented here a second time.
"""
