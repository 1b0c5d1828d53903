"""The example's tokenizer: a word-level vocabulary in which every phrase of the domain is one token.

The longest phrase at a place wins; what is no phrase falls back to single characters, so any ASCII text survives a
round trip. The chat template has the form Qwen's models use for tools (hermes): tools in the system part, calls as JSON
between `<tool_call>` marks, results as user messages between `<tool_response>` marks.
"""

from __future__ import annotations

import json
import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from examples.mealworm.domain import INGREDIENTS, LISTINGS, LOVES, REQUESTS, TITLES, WEEKS, Diet, Kind
from examples.mealworm.prompts import CHICKEN_LINE, DIET_LINE, DISLIKES_LINE, FISH_LINE, LOVES_LINE, RULES
from examples.mealworm.tools import BAD_ARGUMENTS, NOTHING_FOUND, TOOLS, UNKNOWN_TOOL

PAD, START, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
SPECIALS = (PAD, START, END, UNKNOWN)

WITH = '{"with": "'
TITLE = '", "title": "'
MEALS = '", "meals": ["'
NEXT_PAGE = '"}, {"with": "'
ASSISTANT = "assistant\n"

TOOLS_INTRO = "\n\n# Tools\nCall a tool with JSON between <tool_call> and </tool_call>.\n<tools>\n"
"""Opens the tool part of the system message; the wording is ours, the marks are hermes'."""

MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "</tools>", "<think>", "</think>")
JSON_PIECES = (
    '{"name": "', '", "arguments": {"', 'query": "', 'limit": ', 'path": "', MEALS, 'text": "', '", "',
    '"}}', '"}', '"]}}', '"]', '"]}', "}}", "}", '{"meals": ["', '{"results": [', WITH, TITLE, NEXT_PAGE, '"}]}',
    '{"saved": "', BAD_ARGUMENTS, UNKNOWN_TOOL, NOTHING_FOUND, ".md", '.md"}', " dinner", "30", ", ", ": ", "Saved ",
    "system\n", "user\n", ASSISTANT,
    '{"type": "function", "function": {"name": "', '", "description": "', '", "parameters": ',
)  # fmt: skip

TEMPLATE = (
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content -%}{%- set rest = messages[1:] -%}"
    "{%- else -%}{%- set system = '' -%}{%- set rest = messages -%}{%- endif -%}"
    "{{- '<|im_start|>system\\n' + system -}}"
    "{%- if tools -%}{{- TOOLS_INTRO -}}"
    "{%- for tool in tools -%}{%- set spec = tool.function if tool.function is defined else tool -%}"
    '{{- \'{"type": "function", "function": {"name": \' + spec.name | tojson'
    " + ', \"description\": ' + (spec.description or '') | tojson + ', \"parameters\": '"
    " + spec.parameters | tojson + '}}\\n' -}}"
    "{%- endfor -%}{{- '</tools>' -}}{%- endif -%}{{- '<|im_end|>\\n' -}}"
    "{%- for message in rest -%}"
    "{%- if message.role == 'tool' -%}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}"
    "{%- elif message.role == 'assistant' -%}{{- '<|im_start|>assistant\\n' + (message.content or '') -}}"
    "{%- for call in message.tool_calls or [] -%}"
    "{%- set spec = call.function if call.function is defined else call -%}"
    "{%- if message.content or not loop.first -%}{{- '\\n' -}}{%- endif -%}"
    '{{- \'<tool_call>\\n{"name": "\' + spec.name + \'", "arguments": \' -}}'
    "{%- if spec.arguments is string -%}"
    # Compact and spaced JSON text become one form, so that a history reads as the policy wrote it.
    "{{- spec.arguments | replace('\": ', '\":') | replace('\":', '\": ')"
    " | replace('\", \"', '\",\"') | replace('\",\"', '\", \"') -}}"
    "{%- else -%}{{- spec.arguments | tojson -}}{%- endif -%}"
    "{{- '}\\n</tool_call>' -}}{%- endfor -%}{{- '<|im_end|>\\n' -}}"
    "{%- else -%}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
).replace("TOOLS_INTRO", repr(TOOLS_INTRO))


def phrases() -> tuple[str, ...]:
    """Every phrase that is one token, without duplicates, in a fixed order."""
    words = [*MARKS, *JSON_PIECES, TOOLS_INTRO, *RULES, *INGREDIENTS, *WEEKS, *(diet.value for diet in Diet), *LOVES]
    words += [title for kind in Kind for title in (*TITLES[kind], *LISTINGS[kind])]
    words += [FISH_LINE, f"\n{CHICKEN_LINE}", f"\n{DIET_LINE}", f"\n{DISLIKES_LINE}", f"\n{LOVES_LINE}"]
    words += [part for request in REQUESTS for part in request.split("{}") if part]
    for tool in TOOLS:
        # The schema is parsed and printed again, as a chat template prints it.
        words += [tool.name, tool.description or "", json.dumps(json.loads(tool.parameters or "{}"))]
    characters = ["\n", *(chr(code) for code in range(32, 127))]
    return tuple(dict.fromkeys([*words, *characters]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template; ids are stable for one vocabulary."""
    vocabulary = {token: index for index, token in enumerate((*SPECIALS, *phrases()))}
    longest_first = sorted(phrases(), key=len, reverse=True)
    pattern = "|".join(re.escape(phrase) for phrase in longest_first)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"{pattern}|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it bare
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
