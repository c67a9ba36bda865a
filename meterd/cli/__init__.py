"""The command line: a module for each command; data on stdout, messages on stderr.

May import everything; nothing imports it. A command's heavy imports are loaded when it runs.
Decision: docs/decisions/0021.
"""
