"""The x86-64 architecture as pure functions: no engine, no device and no host is known here."""
