"""OTLP in, episodes in DuckDB out."""
