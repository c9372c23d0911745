"""Where work runs: one protocol for processes, threads and, later, clusters."""
