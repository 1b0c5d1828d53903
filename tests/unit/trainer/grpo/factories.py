"""Small random models, tokenizers and samples for the tests of the engine."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.grpo.policy import LoraSettings, Policy, load_policy

VOCAB_SIZE = 97

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content or '' }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def tiny_model(*, seed: int = 0, dtype: torch.dtype = torch.float32, vocab_size: int = VOCAB_SIZE) -> Qwen3ForCausalLM:
    """A Qwen3 of two layers with weights large enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config).to(dtype).eval()
    return _with_exact_norms(model) if dtype is torch.float64 else model


def _with_exact_norms(model: Qwen3ForCausalLM) -> Qwen3ForCausalLM:
    """Qwen's normalisation rounds to float32 whatever the model's type; comparisons to 1e-10 need all digits."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "Qwen3RMSNorm":
                exact = torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon)
                exact.weight = child.weight
                setattr(module, name, exact)
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with a chat template, ids 0 to VOCAB_SIZE - 1."""
    words = ["<pad>", "<|im_end|>", "<|im_start|>", "<unk>", "system", "user", "assistant", "tool"]
    words += [f"w{i}" for i in range(len(words), VOCAB_SIZE)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tiny_base(directory: Path, *, seed: int = 0) -> Path:
    """A base policy directory as a user has it."""
    tiny_model(seed=seed).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def tiny_policy(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> Policy:
    """Full weights on CPU."""
    return Policy(module=tiny_model(seed=seed, dtype=dtype), tokenizer=tiny_tokenizer(), device=torch.device("cpu"))


def tiny_lora_policy(directory: Path, *, rank: int = 4, dtype: str = "float32") -> Policy:
    """A fresh adapter over a saved base."""
    return load_policy(save_tiny_base(directory), lora=LoraSettings(rank=rank, alpha=8), device="cpu", dtype=dtype)
