"""What things are: one module a kind. Imports nothing of ours and does no I/O."""
