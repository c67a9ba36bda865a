"""PromQL evaluation with the semantics of Prometheus 3, over numpy arrays.

May import model and errors. Knows no SQL and no HTTP: a SeriesSource gives it labels and arrays.
Decision: docs/decisions/0012.
"""
