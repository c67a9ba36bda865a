"""The command line: one file a command, data on stdout, talk on stderr.

May import everything; nothing imports it. A command's heavy imports load when it runs.
Decision: docs/decisions/0021.
"""
