"""The commands of `ratchet`, a module for each family."""
