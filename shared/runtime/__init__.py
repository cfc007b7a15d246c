"""Everything that touches the world, written once: the broker, the log, the clock, HTTP, processes."""
