"""A read-only Modbus TCP server for other programs, fed by what the links carry anyway.

May import everything below it, as api and sim may, which it never sees.
Decided against: keeping single registers (an answer put together from two reads may be torn in
the middle of a value), pymodbus' server (its store of registers wants to be filled, and writes
to it succeed), and a connection to the meter of its own (many meters accept one only).
"""
