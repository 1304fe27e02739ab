"""The registry: one small contract, kept by SQLite on one machine and by others later."""
