"""Samplers: fresh answers of the current policy at recorded states."""
