"""What a device means by its bytes: drivers, found by entry point, and register maps.

May import wire, model and errors. A driver is one small class without loop, retry, clock
or log; tables (maps/*.yaml, Field rows) are data, code is for what a table cannot say.
Decided against: a base class (the Protocols in model/driver.py are all there is to satisfy),
and templates in maps (plain rows can be read beside the maker's document).
"""
