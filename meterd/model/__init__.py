"""The vocabulary: what is measured, what a device said, what the house holds to be true.

May import errors and the standard library, nothing else: every room speaks these words.
Decided against: a class per quantity, and units as objects. A table of names is what
people look up, and conversion happens once, in poll/normalise.py.
"""
