"""A faithful stand-in of the Messages API, on 127.0.0.1, for tests and for trying Ratchet without a key.

Faithful to what is written down of the service (the types of the ``anthropic`` package and its published
documentation); where nobody has verified a behaviour, the code says so with a ``?``. Start by hand:
``python -m tests.standin``.
"""
