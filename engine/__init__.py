"""The ratchet's engine: proposals in, measured experiments out, never a word to a terminal."""

__version__ = "0.1.0"
