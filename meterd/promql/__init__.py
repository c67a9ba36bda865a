"""PromQL evaluation with the semantics of Prometheus 3, over numpy arrays.

May import model and errors. Knows no SQL and no HTTP: a SeriesSource gives it labels and arrays.
Decided against: a grammar of our own (promql-parser has Prometheus' own; input_limits.py bounds
what it gets), and evaluating step by step (numpy does all steps of a series at once).
"""
