"""PromQL over arrays: what Prometheus 3 answers, from series that a function hands in.

May import model and errors. Knows no SQL and no HTTP: a Source gives it labels and arrays.
Decision: docs/decisions/0012.
"""
