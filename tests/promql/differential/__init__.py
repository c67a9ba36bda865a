"""meterd's PromQL beside that of a real Prometheus, both with the same samples."""
