"""Modbus TCP proxy: a read-only server for other programs, with recent polls as its cache.

May import all rooms below it; api and sim are beside it.
Decided against: caching single registers (a reply combined from two reads may be torn in the
middle of a value), pymodbus' server (it serves a data store that has to be filled, and accepts
writes), and a connection of its own to the meter (many meters accept only one).
"""
