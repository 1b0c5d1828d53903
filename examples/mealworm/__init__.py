"""The case study at scale-model size: a meal-planning agent, its traces, its reward and its training."""
