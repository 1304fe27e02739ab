"""The door to a VM wherever it runs: exec, logs, console, artifacts. Local today, another host's later."""
