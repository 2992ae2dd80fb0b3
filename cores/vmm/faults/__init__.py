"""Page faults of deprivileged engines that the guest does not cause."""
