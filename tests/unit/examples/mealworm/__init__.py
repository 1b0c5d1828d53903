"""Tests of the meal-planning example."""
