"""The Prometheus side of the API: names, PromQL over the store, and what goes with it.

Part of api: may import daemon, promql and everything below, and the api's own plain files.
Decision: docs/decisions/0016.
"""
