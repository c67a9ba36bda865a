"""The vocabulary: what is measured, what a device said, what the house holds to be true.

May import errors and the standard library, nothing else: every room speaks these words.
Decision: docs/decisions/0008.
"""
