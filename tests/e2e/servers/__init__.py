"""Modbus servers by other people, each a program of its own.

Registers come on stdin, one run a line: function, address, then words, all in hexadecimal
except the first two. The port is the first line on stdout.
"""
