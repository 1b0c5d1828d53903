"""ART backends: our own on torch (`torch_backend.py`), and ART's, by name (`factory.py`)."""

import os

# ART imports litellm, which would fetch a price list over the network while it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
