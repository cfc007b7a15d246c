"""Pure ground: no clock, no ids, no IO, no names of our domain."""
