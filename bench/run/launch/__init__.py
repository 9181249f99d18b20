"""How workers are started: as processes on this machine."""
