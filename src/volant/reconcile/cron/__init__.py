"""Schedules: a job for every moment of a crontab(5) line."""
