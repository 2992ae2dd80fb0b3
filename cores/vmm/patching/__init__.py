"""Binary patching for free mode."""
