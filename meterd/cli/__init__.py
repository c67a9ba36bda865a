"""The command line: a module for each command; data on stdout, messages on stderr.

May import everything; nothing imports it. A command's heavy imports are loaded when it runs.
Decided against: commands that talk to a daemon only (`meterd poll` needs none), and output
formats of a command's own (output.py knows them all).
"""
