"""What a person wrote in meterd.yaml, checked to the last key, as frozen values.

May import wire, model and errors; knows no driver: `load()` is handed what drivers accept.
Decided against: defaults in several files and settings from the environment (one YAML file is the
whole configuration), YAML 1.1, and stopping at the first mistake (a person gets them all at once).
"""
