"""Several meterds on one server: leases of devices, members, rebalancing, heads of the others.

May import `compaction`, whose session a leased one narrows to its own devices, and what is below.
"""
