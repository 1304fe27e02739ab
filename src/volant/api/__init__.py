"""HTTP in: parse, authorise, one call to an intent, answer. Never touches a host."""
