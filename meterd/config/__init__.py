"""Configuration: meterd.yaml parsed, validated, and turned into frozen `Settings`.

May import wire, model and errors. It imports no driver: `load()` gets their names and option
models as arguments.
Decision: docs/decisions/0013.
"""
