"""The Prometheus side of the API: names, PromQL over the store, and what goes with it.

Part of api: may import daemon, promql and everything below, and the api's own plain files.
Decided against: the route table of routes.py for these paths. Their parameters may come in a
form, unknown ones are ignored, and errors have Prometheus' shape: none of it fits REST's rules.
"""
