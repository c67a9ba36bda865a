"""Changes as they happen, for any number of clients at once (server-sent events).

May import the API's own vocabulary (answer, latest, problem) and aiohttp; routes lead here.
Decided against: a task and a queue for each client (a thousand would cost a core: an event is
made once and written to all), WebSockets (an EventSource reconnects by itself and passes every
proxy), and keeping events for clients that are gone for long (they get the whole state anew).
"""
