"""The simulators: meters on Modbus and a UPS on a pty, fed by a real house, able to misbehave.

May import drivers (for the register maps), model and errors; wire and config are for clients.
Decided against: pymodbus' server and the drivers' own decoding turned round. What checks
meterd must not share its mistakes, so framing, CRC and encoding here are written anew.
"""
