"""Measures a whole hive from outside, beside the floor that the broker alone sets. `make bench` runs it."""
