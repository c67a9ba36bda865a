"""What a person wrote in meterd.yaml, checked to the last key, as frozen values.

May import wire, model and errors; knows no driver: `load()` is handed what drivers accept.
Decision: docs/decisions/0013.
"""
