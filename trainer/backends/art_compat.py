"""What importing ART does to other packages, undone where it breaks them."""

from __future__ import annotations

from art.transformers import patches
from transformers import masking_utils


def restore_transformers() -> None:
    """Take back ART's replacement of a transformers function.

    ART 0.5.18 replaces `masking_utils._preprocess_mask_arguments` by a function with the signature of transformers 5.2;
    later releases call it with fewer arguments, so every model that builds an attention mask would fail. The
    replacement serves position ids of vision models, which this backend does not train.
    """
    masking_utils._preprocess_mask_arguments = patches._preprocess_mask_arguments
