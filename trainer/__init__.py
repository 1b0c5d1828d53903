"""Episodes in, a better policy out.

Tensor names end in shape letters: `B` batch, `P` prompts, `G` group, `T` tokens, `V` vocabulary, `N` samples,
`H` hidden.
"""
