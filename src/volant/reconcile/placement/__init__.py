"""Where VMs run: which node each is given, and what becomes of those whose node is gone."""
