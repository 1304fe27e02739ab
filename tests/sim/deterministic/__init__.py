"""The whole product on simulated time, network, host and disk, all decided by one seed."""
