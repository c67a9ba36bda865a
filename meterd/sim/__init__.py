"""The simulators: meters on Modbus and a UPS on a pty, fed by a real house, able to misbehave.

May import drivers (for the register maps), model and errors; wire and config are for clients.
Decision: docs/decisions/0020.
"""
