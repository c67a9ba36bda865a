"""The command line: one file a command, data on stdout, talk on stderr.

May import everything; nothing imports it. A command's heavy imports load when it runs.
Decided against: commands that talk to a daemon only (`meterd poll` needs none), and output
formats of a command's own (output.py knows them all).
"""
