"""Who proposes changes: one streaming protocol (``engine.types.Proposer``), one module an author.

Nothing is imported here: optuna and an API client cost hundreds of milliseconds, and ``ratchet status``
needs neither.
"""
