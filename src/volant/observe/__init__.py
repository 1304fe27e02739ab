"""What was seen: the logs of workloads, kept bounded on disk."""
