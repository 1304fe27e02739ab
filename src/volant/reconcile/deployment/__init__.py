"""The deployment controller: as many VMs of one description as are wanted, and how they become those of another."""
