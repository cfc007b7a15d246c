"""What services share: a language (contracts), a kernel, a runtime. Never each other's code."""
