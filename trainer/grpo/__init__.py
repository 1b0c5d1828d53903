"""The GRPO engine: needs nothing but torch, transformers and peft."""
