"""What people do to a store: look, check, back up, move, compact, correct, export, import.

May import all of the room; nothing else of the room may import it.
What writes takes the store's lock, or goes through the one `Writer` that has it.
Decision: docs/decisions/0006.
"""
