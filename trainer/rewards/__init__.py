"""Reward models: criteria, gates and the specification that joins them."""
