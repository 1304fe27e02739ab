"""minisign signatures over what was built."""
