"""Drivers: code for one kind of hypervisor each, behind one contract."""
