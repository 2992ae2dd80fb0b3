"""An interactive session."""
