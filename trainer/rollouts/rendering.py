r"""Messages to prompt token ids through the policy's own chat template, and sampled token ids back to a message.

In: the messages and tools of a decision point. Out: token ids, and for an answer the `Message` it says. Answers are
read in the hermes form that Qwen and many others write: `<think>…</think>` for reasoning and
`<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>` for each call.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from spanloop.convert import Chat, compact_json, message_to_chat, parse_json, tools_to_chat
from spanloop.records import Message, Part, ReasoningPart, Role, TextPart, ToolCall, ToolDefinition
from trainer.errors import TrainerError

CACHED_PROMPTS_MAX = 8192
"""Rendered prompts kept by one renderer; the least recently used goes first."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
END_OF_TURN_TOKENS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "</s>", "<|endoftext|>")
"""Tokens that end an assistant turn in the common chat formats; used where the tokenizer has them as single tokens."""

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_CALL_ID_DIGITS = 24


class RenderingError(TrainerError):
    """A chat template could not render a prompt."""


class ParsedAnswer(NamedTuple):
    """What sampled tokens say."""

    message: Message
    finish_reason: str
    """`tool_calls`, `stop`, or `length` where no end-of-turn token was sampled."""


def to_chat(messages: Iterable[Message]) -> list[Chat]:
    """The messages in the form chat templates read: call arguments as objects, as vLLM hands them to the template.

    Arguments that are no JSON object stay text.
    """
    return [_with_argument_objects(message_to_chat(message)) for message in messages]


def _with_argument_objects(chat: Chat) -> Chat:
    calls = chat.get("tool_calls")
    if not isinstance(calls, list):
        return chat
    return {**chat, "tool_calls": [{**call, "function": _parsed_arguments(call["function"])} for call in calls]}


def _parsed_arguments(function: Chat) -> Chat:
    arguments = _json_object(str(function["arguments"]))
    return function if arguments is None else {**function, "arguments": arguments}


def _json_object(text: str) -> dict[str, object] | None:
    """The object a JSON text holds; None where it holds none, or one that could not be written as UTF-8 JSON again."""
    try:
        value = parse_json(text)
        compact_json(value).encode()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class PromptRenderer:
    """Renders prompts with one tokenizer and remembers them: a state is asked at again in every pass over the data."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, cached_prompts_max: int = CACHED_PROMPTS_MAX) -> None:
        self._tokenizer = tokenizer
        self._template = tokenizer.chat_template
        self._cached_prompts_max = cached_prompts_max
        self._cache: OrderedDict[str, tuple[str, tuple[int, ...]]] = OrderedDict()

    def text(self, messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()) -> str:
        """The prompt as the policy reads it, up to where its answer begins."""
        return self._rendered(messages, tools)[0]

    def token_ids(self, messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()) -> tuple[int, ...]:
        """The prompt's token ids, up to where the answer begins.

        Raises:
            RenderingError: the tokenizer has no chat template, or the template refuses these messages.

        """
        return self._rendered(messages, tools)[1]

    def _rendered(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> tuple[str, tuple[int, ...]]:
        chat, tool_chat = to_chat(messages), tools_to_chat(tools)
        key = hashlib.blake2b(compact_json([chat, tool_chat]).encode("utf-8", "surrogatepass")).hexdigest()
        if self._tokenizer.chat_template != self._template:
            self._template = self._tokenizer.chat_template
            self._cache.clear()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        self._cache[key] = rendered = self._render(chat, tool_chat)
        if len(self._cache) > self._cached_prompts_max:
            self._cache.popitem(last=False)
        return rendered

    def _render(self, chat: list[Chat], tool_chat: list[Chat]) -> tuple[str, tuple[int, ...]]:
        if not self._template:
            raise RenderingError("tokenizer: it has no chat template; save the policy's tokenizer with one")
        try:
            text = self._tokenizer.apply_chat_template(
                cast("list[dict[str, str]]", chat),
                tools=cast("list[dict[Any, Any] | Callable[..., Any]] | None", tool_chat or None),
                add_generation_prompt=True,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = " ".join(str(message["role"]) for message in chat)
            raise RenderingError(
                f"chat template: refuses the roles [{roles}] ({type(error).__name__}: {error}); "
                "drop these points or use a template that takes them"
            ) from error
        # The template writes the special tokens itself; adding them again would double them.
        return str(text), tuple(self._tokenizer(str(text), add_special_tokens=False)["input_ids"])


_renderers: WeakKeyDictionary[PreTrainedTokenizerBase, PromptRenderer] = WeakKeyDictionary()


def renderer_of(tokenizer: PreTrainedTokenizerBase) -> PromptRenderer:
    """The renderer all callers of one tokenizer share."""
    if tokenizer not in _renderers:
        _renderers[tokenizer] = PromptRenderer(tokenizer)
    return _renderers[tokenizer]


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()
) -> tuple[int, ...]:
    """Token ids of the prompt, up to where the answer begins; cached. Raises RenderingError."""
    return renderer_of(tokenizer).token_ids(messages, tools)


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase, extra: Iterable[int] = ()) -> frozenset[int]:
    """Ids of the tokens that end an answer: the tokenizer's own, the known ones it has, and `extra`."""
    known = {tokenizer.convert_tokens_to_ids(token) for token in END_OF_TURN_TOKENS}
    ids = {*known, tokenizer.eos_token_id, *extra} - {None, tokenizer.unk_token_id}
    return frozenset(int(token_id) for token_id in ids)


def opens_reasoning(prompt_text: str) -> bool:
    """Whether a rendered prompt ends inside a reasoning block, as templates of thinking-only models do."""
    return prompt_text.rstrip().endswith(THINK_OPEN)


def parse_answer(
    tokenizer: PreTrainedTokenizerBase,
    token_ids: Sequence[int],
    *,
    stop_ids: frozenset[int] | None = None,
    in_reasoning: bool = False,
) -> ParsedAnswer:
    """The message the sampled tokens say, and why sampling ended.

    A malformed call stays in the text, tags included, so that a reward can punish it. Call ids are derived from the
    answer's text and the call's position: equal tokens give equal messages.

    Args:
        tokenizer: the policy's.
        token_ids: the sampled tokens, the end-of-turn token included where it was sampled.
        stop_ids: tokens that end a turn; by default those of `end_of_turn_ids`.
        in_reasoning: the prompt had opened a reasoning block already (`opens_reasoning`).

    """
    stops = end_of_turn_ids(tokenizer) if stop_ids is None else stop_ids
    ended = bool(token_ids) and token_ids[-1] in stops
    said = list(token_ids[:-1] if ended else token_ids)
    text = str(tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    message = parse_text(text, in_reasoning=in_reasoning)
    if not ended:
        return ParsedAnswer(message, "length")
    return ParsedAnswer(message, "tool_calls" if message.tool_calls else "stop")


def parse_text(text: str, *, in_reasoning: bool = False) -> Message:
    """The assistant message written in `text`; see `parse_answer`."""
    reasoning, rest = _split_reasoning(text, in_reasoning=in_reasoning)
    calls: list[ToolCall] = []
    kept: list[str] = []
    end = 0
    for match in _CALL.finditer(rest):
        call = _parse_call(match[1], text, len(calls))
        if call is None:
            continue
        calls.append(call)
        kept.append(rest[end : match.start()])
        end = match.end()
    kept.append(rest[end:])
    said = "\n".join(stripped for piece in kept if (stripped := piece.strip("\n")).strip()) if calls else rest
    parts: list[Part] = [] if reasoning is None else [ReasoningPart(text=reasoning)]
    if said:
        parts.append(TextPart(text=said))
    return Message(role=Role.ASSISTANT, parts=(*parts, *calls))


def _split_reasoning(text: str, *, in_reasoning: bool) -> tuple[str | None, str]:
    """Reasoning (None where there is no block) and what follows it; an unclosed block is reasoning to the end."""
    if not in_reasoning:
        if not text.lstrip().startswith(THINK_OPEN):
            return None, text
        text = text.lstrip()[len(THINK_OPEN) :]
    inside, _, rest = text.partition(THINK_CLOSE)
    reasoning = inside.strip("\n")
    # Templates of models that can think write an empty block where there is nothing to say.
    return reasoning or None, rest.lstrip("\n")


def _parse_call(block: str, answer: str, index: int) -> ToolCall | None:
    """The call in one block; None where it is malformed: no JSON object, no name, or arguments that are no object."""
    value = _json_object(block)
    if value is None:
        return None
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    digest = hashlib.blake2b(f"{index}\0{answer}".encode("utf-8", "surrogatepass")).hexdigest()
    return ToolCall(id=f"call_{digest[:_CALL_ID_DIGITS]}", name=name, arguments=compact_json(arguments))
