"""The running whole: builds the site from its settings, keeps it alive, reloads and stops it.

May import every room below; the API and the command line stand on top of it and are not known
here. Start is `apply` from empty, stop is `apply(Settings())`: one way to change a site.
Decision: docs/decisions/0014.
"""
