"""PromQL over arrays: what Prometheus 3 answers, from series that a function hands in.

May import model and errors. Knows no SQL and no HTTP: a SeriesSource gives it labels and arrays.
Decided against: a grammar of our own (promql-parser has Prometheus' own, behind a guard), and
evaluating step by step (numpy does all steps of a series at once).
"""
