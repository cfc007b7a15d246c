"""The services: each decides something, and shares no code with the others."""
