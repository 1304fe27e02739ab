"""Autoscaling: what deployments do, and how many replicas they should have for it."""
