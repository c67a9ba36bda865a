"""The running whole: builds the site from its settings, keeps it alive, reloads and stops it.

May import every room below; the API and the command line stand on top of it and are not known
here. Start, reload and stop prepare a change and commit it, as daemon/reload.py says.
Decision: docs/decisions/0014.
"""
