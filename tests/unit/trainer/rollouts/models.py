"""Small real models and a real tokenizer with a chat template, made from a seed."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainer.grpo.policy import Policy

CHAT_TEMPLATE = """\
{%- set first_system = messages[0].content if messages[0].role == 'system' else none -%}
{%- if tools or first_system is not none -%}
<|im_start|>system
{{ first_system or '' }}
{%- if tools %}{{ '\n\n# Tools\n<tools>' }}
{%- for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools>' }}
{%- endif -%}
<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role in ('user', 'developer') -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' -%}
<|im_start|>assistant
{% if message.reasoning_content %}{{ '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}{% endif -%}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
{%- if message.content or not loop.first %}{{ '\n' }}{% endif -%}
{{ '<tool_call>\n' }}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{{- '\n</tool_call>' }}
{%- endfor -%}
<|im_end|>
{% elif message.role == 'tool' -%}
<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>", "</tool_response>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, the special tokens of the Qwen chat form, and a chat template with tools."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def small_model(
    kind: str = "qwen3",
    *,
    vocab_size: int = 272,
    hidden: int = 32,
    context: int = 512,
    seed: int = 0,
    **changes: object,
) -> PreTrainedModel:
    """A model of two layers with weights large enough that its distributions are far from uniform."""
    shape = {
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": context,
        "initializer_range": 0.15,
        "eos_token_id": 258,
        "pad_token_id": None,
        "bos_token_id": None,
        "tie_word_embeddings": True,
        **changes,
    }
    if kind == "qwen2":
        shape.pop("head_dim")
    config_class, model_class = {
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config_class(**shape))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 1.0, 0.2)
    return model.eval()


def small_policy(kind: str = "qwen3", **changes: object) -> Policy:
    """A policy of `small_model` with the byte tokenizer, on the CPU."""
    return Policy(module=small_model(kind, **changes), tokenizer=byte_tokenizer(), device=torch.device("cpu"))
