"""Changes as they happen, for any number of clients at once (server-sent events).

May import the API's own vocabulary (answer, latest, problem) and aiohttp; routes lead here.
Decision: docs/decisions/0017.
"""
