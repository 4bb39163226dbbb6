"""store.db: the bus between engine and consoles.

``core`` owns the one writing connection, ``writes`` and ``reading`` are the statements, ``migrations`` the
schema. Consoles import ``reading`` alone, which needs nothing but the standard library.
"""
