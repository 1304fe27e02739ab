"""The hand that makes disks on this host."""
