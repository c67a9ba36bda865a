"""Configuration: meterd.yaml parsed, validated, and turned into frozen `Settings`.

May import wire, model and errors. It imports no driver: `load()` gets their names and option
models as arguments.
Decided against: defaults in several files and settings from the environment (one YAML file is the
whole configuration), YAML 1.1, and stopping at the first mistake (all are reported at once).
"""
