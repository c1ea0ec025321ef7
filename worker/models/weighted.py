"""Prompts in compel's syntax: weights, blends, conjunctions (https://github.com/damian0815/compel).

The library parses them and puts the embeddings together; the text encoder is ours to call, so that it keeps no state
and reads the layer that is asked for. What its parser would take for plain words, or leave out unsaid, is refused.
"""

import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from darkroom.storage.tensors import MOST
from darkroom.tasks.errors import Fault
from darkroom.tasks.requests.prompted import TEXTS
from darkroom.worker.errors import PromptSyntax
from darkroom.worker.models import marks
from darkroom.worker.models.readers import Read, Reader
from darkroom.worker.models.words import Long, Words

MOST_READINGS = 256  # calls of a text encoder for one text; every weight below 1 takes one for each chunk

_OPERATOR = re.compile(r'\.(?:blend|and|attend|swap)\(|[)"]\s*\.(?:blend|and|attend|swap)\s+\(')
_AS_WORDS = re.compile(r"\.(?:blend|and|attend|swap)\b")  # an operator that the parser took for words
_lock = threading.Lock()  # the parser's memory of what it has tried is one for all threads


def faults(words: Words) -> list[Fault]:
    """What of the texts is not in the syntax that they are said to have, with the place: a fault of each text."""
    texts = {field: getattr(words, field) for field in TEXTS} if words.syntax == "compel" else {}
    found = [fault_of(field, text) for field, text in texts.items() if text]
    return [fault for fault in found if fault]


def fault_of(field: str, text: str) -> Fault | None:
    """The first place from which on a text cannot be read."""
    fault = next(marks.faults(marks.hidden(text)), None)
    if fault is None:
        found = _parsed(text)
        fault = found if isinstance(found, tuple) else None
    if fault is None:
        return None
    at, reason = fault
    return Fault(field, PromptSyntax.code, f"at character {at + 1}, {text[at : at + 20]!r}: {reason}")


def read(reader: Reader, field: str, text: str, long: Long) -> Read:
    """As `Reader.read` of a text that was checked; pooled embeddings know no weights, and miss words of weight 0."""
    from compel import Compel

    conjunction: Any = _parsed(text)
    _check_cost(reader, field, conjunction, long)
    provider = _provider(reader, truncate=long == "cut")
    reading = Compel(provider.tokenizer, provider.text_encoder, device=reader.device)
    reading.conditioning_provider = provider
    states, _ = reading.build_conditioning_tensor_for_conjunction(conjunction)
    pooled = _pooled(reader, conjunction.prompts[0])
    for found in (states, pooled):
        if found is not None and not bool((found.abs() <= MOST).all()):  # nor is NaN
            raise PromptSyntax([Fault(field, PromptSyntax.code, "its weights are too large, or together nothing")])
    cut = long == "cut" and any(len(reader.tokens(_plain(one))) > reader.room for one in _prompts(conjunction))
    return Read(states, pooled, cut)


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Compel's Conjunction, else the first place at fault and the reason."""
    import pyparsing
    from compel.prompt_parser import PromptParser

    text = marks.hidden(text)
    spaced = re.sub(r",(\S)", r", \1", text)  # as compel does
    if not text.strip():
        return PromptParser().parse_conjunction("")
    with _lock:
        pyparsing.ParserElement.enable_packrat(None)  # without it each parenthesis in another takes four times as long
        parser = PromptParser()
        try:
            found = _without_nothing(parser.flatten(parser.conjunction.parse_string(spaced, parse_all=True)[0]))
        except pyparsing.ParseBaseException as error:
            return _place(text, error.loc), f"cannot be read ({error.msg})"
        except (PromptParser.ParsingException, ValueError, RecursionError) as error:
            at = _OPERATOR.search(text)
            return at.start() if at else 0, f"cannot be read ({str(error)[:60]})"
    at = _OPERATOR.search(text)
    if at and any(_AS_WORDS.search(_plain(prompt)) for prompt in _prompts(found)):
        return at.start(), 'cannot be read; such as ("a cat", "a dog").blend(0.7, 0.3)'
    for prompt in _prompts(found):
        for one in prompt.children:
            one.text = marks.revealed(one.text)
    return found


def _place(text: str, at: int) -> int:
    """Where in the text itself a place of the text with compel's spaces is."""
    commas = [comma.end() for comma in re.finditer(r",(?=\S)", text)]
    return at - sum(end + spaces < at for spaces, end in enumerate(commas))


def _without_nothing(conjunction: Any) -> Any:
    """Without fragments of no word, of which compel cannot find the tokens."""
    from compel.prompt_parser import Fragment

    for prompt in _prompts(conjunction):
        prompt.children = [one for one in prompt.children if one.text.strip()] or [Fragment("")]
    if not conjunction.prompts:
        raise ValueError("it has no words")
    return conjunction


def _prompts(conjunction: Any) -> Iterator[Any]:
    """Those of blends, too."""
    for part in conjunction.prompts:
        yield from getattr(part, "prompts", [part])


def _plain(prompt: Any) -> str:
    """The words alone, without those of no weight."""
    return " ".join(one.text for one in prompt.children if one.weight > 0)


def _check_cost(reader: Reader, field: str, conjunction: Any, long: Long) -> None:
    calls = 0
    for prompt in _prompts(conjunction):
        tokens = sum(len(reader.tokens(one.text)) for one in prompt.children)
        chunks = 1 if long == "cut" else -(-tokens // reader.room)
        calls += chunks * (1 + sum(one.weight < 1 for one in prompt.children))
    if calls > MOST_READINGS:
        reason = f"takes {calls} readings of a text encoder, at most {MOST_READINGS}: use fewer weights below 1"
        raise PromptSyntax([Fault(field, PromptSyntax.code, reason)])


def _pooled(reader: Reader, part: Any) -> torch.Tensor | None:
    """Of the first chunk; of a blend as its embeddings are blended."""
    prompts = getattr(part, "prompts", [part])
    found = [reader.read(_plain(prompt), "cut").pooled for prompt in prompts]
    pooled = [one for one in found if one is not None]
    if len(pooled) < 2:
        return next(iter(pooled), None)
    weights = torch.tensor(part.weights, dtype=pooled[0].dtype, device=pooled[0].device)
    weights = weights / weights.sum() if part.normalize_weights else weights
    return (torch.cat(pooled) * weights[:, None]).sum(0, keepdim=True)


class _Stand:
    """What compel asks of a text encoder: where it is and in what dtype, which under offloading it does not know."""

    def __init__(self, reader: Reader) -> None:
        self.device, self.dtype = reader.device, reader.encoder.dtype


def _provider(reader: Reader, *, truncate: bool) -> Any:
    from compel.embeddings_provider import EmbeddingsProvider, SplitLongTextMode

    class Provider(EmbeddingsProvider):  # type: ignore[misc]
        def _encode_token_ids_to_embeddings(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            plain = mask is None or bool(mask.all())
            return reader.encode(ids, None if plain else mask).states

    return Provider(
        reader.tokenizer,
        _Stand(reader),
        truncate=truncate,
        device=reader.device,
        split_long_text_mode=SplitLongTextMode.BRUTAL,
        model_max_length=reader.room + 2,
    )
