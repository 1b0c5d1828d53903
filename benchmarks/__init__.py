"""Scripts that print ratios against peers, measured side by side in one run."""
