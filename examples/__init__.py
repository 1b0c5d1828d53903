"""Examples that run end to end."""
