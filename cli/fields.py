"""The fields of requests as options: made from the request classes, so that a new field is an option by itself."""

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, TypeVar

import typer

from darkroom.cli.names import ALIASES, FLAGS
from darkroom.cli.reading import number, read_json
from darkroom.tasks.requests import KINDS, JobRequest

Command = TypeVar("Command", bound=Callable[..., Any])

#: What the command adds to what the field says of itself.
_MORE = {
    "output_format": ", or by --save",
    "seed": "; repeat it: one per image",
    "loras": "; :SCALE says how much of it; repeat it for more",
    "styles": "; :WEIGHT says how much beside others; repeat it for more",
    "class_prompts": "; repeat it for more",
    "sample_prompts": "; repeat it for more",
    "start_by": ": ISO 8601 with a zone, or +SECONDS",
}
_INPUT = "a file (uploaded), a storage key, a data: or https: URL"
#: The argument, and what an option by another name stands for.
_NO_OPTIONS = ("prompt", "kind", "seeds")
_WRITTEN = {"loras": "NAME[:SCALE]", "styles": "PICTURE[:WEIGHT]"}
_DECIMAL_COMMA = re.compile(r"[^:,]+:\s*[-+]?[0-9]*,[0-9]+\s*")
_METAVARS = {"integer": "INTEGER", "number": "FLOAT", "object": "JSON", "array": "TEXT"}


@dataclass(frozen=True)
class FieldOption:
    """One field, as it is at a terminal. `schema` is its part of the JSON schema.

    `kinds` have it, none: all; `panel` is where help shows it, `told` whether the panel's title names the kinds.
    """

    name: str
    schema: Mapping[str, Any]
    kinds: tuple[str, ...]
    is_input: bool
    panel: str = ""
    told: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """`--steps`. Of what is so or not so, the one that differs from the default."""
        away = "no-" if self._is_on else ""
        return FLAGS.get(self.name) or (f"--{away}{self.name.replace('_', '-')}",)

    @property
    def help(self) -> str:
        """What it is, its bounds and choices, and which kinds have it."""
        text = f"{'do not ' if self._is_on else ''}{self.schema.get('description', '')}"
        if self.is_input:
            text = _INPUT if self.name == "image" else f"{text}; {_INPUT}"
        more = f"{''.join(_bounds(self.schema))}{_MORE.get(self.name, '')}{_parts(self.schema)}"
        found = f"{text[:1].upper()}{text[1:]}{more}"
        also = next((f" Also {alias}." for alias, flag in ALIASES.items() if flag == self.flags[0]), "")
        whose = f" For {', '.join(self.kinds)}." if self.kinds and not self.told else ""
        return f"{found}.{also}{whose}"

    @property
    def repeated(self) -> bool:
        """Whether it may be given several times."""
        return self.name == "seed" or (self.schema.get("type") == "array" and not self.is_pair)

    @property
    def parameter(self) -> inspect.Parameter:
        """The command's parameter. A number is a text: it is checked with all other fields, to name every fault."""
        kind = self.schema.get("type")
        if kind == "boolean":
            wanted: Any = bool | None
            info = typer.Option(self.flags[0], help=self.help, rich_help_panel=self.panel or None)
        else:
            wanted = list[str] | None if self.repeated else str | None
            info = typer.Option(
                *self.flags, help=self.help, metavar=self._metavar(), rich_help_panel=self.panel or None
            )
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[wanted, info]
        )

    def value(self, given: Any) -> Any:
        """What the request is to hold; what cannot be read is passed on as it came, and named with the other faults."""
        if self.name == "seed":
            return [number(one, int) for one in _separate(given)]
        if isinstance(given, list):  # a data: URL has commas of its own, and so have sentences
            return given if self.is_input or self._is_of_texts else _separate(given)
        return given is not self._is_on if isinstance(given, bool) else self._read(given)

    def _read(self, text: str) -> Any:
        kind = self.schema.get("type")
        if self.is_pair:
            return [number(part, int) for part in re.split("[x,]", text)]
        if kind in ("integer", "number"):
            return number(text, int if kind == "integer" else float)
        if kind == "object":
            return _pairs(text, self.schema.get("properties", {}))
        return moment(text) if self.schema.get("format") == "date-time" else text

    @property
    def _is_on(self) -> bool:
        """Whether it is so unless the option says otherwise."""
        return self.schema.get("default") is True

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its values, where it has several."""
        return tuple(self.schema.get("properties", ()))

    @property
    def is_pair(self) -> bool:
        """Whether it is a fixed number of numbers: a size, a place."""
        numbers = self.schema.get("items", {}).get("type") == "integer"
        return numbers and self.schema.get("maxItems") == self.schema.get("minItems")

    @property
    def _is_of_texts(self) -> bool:
        """Whether it holds what somebody wrote, and no names."""
        return self.schema.get("items", {}).get("maxLength") is not None

    def _metavar(self) -> str | None:
        if self.is_pair:
            return "PAIR"
        if self.schema.get("format") == "date-time":
            return "TIME"
        if "properties" in self.schema:
            return "NAME=VALUE,..."
        return _WRITTEN.get(self.name) or _METAVARS.get(str(self.schema.get("type")))


#: The kinds that `darkroom submit` has options for; others have a command of their own.
SUBMITTED = {name: kind for name, kind in KINDS.items() if not kind.own_command}


@cache
def field_options() -> tuple[FieldOption, ...]:
    """Of every kind that is submitted: what they ask for first, then what all jobs have."""
    common = set(JobRequest.model_fields)
    found: dict[str, list[str]] = {}
    for kind, request in SUBMITTED.items():
        for name in request.model_fields:
            found.setdefault(name, []).append(kind)
    ordered = sorted((name for name in found if name not in _NO_OPTIONS), key=lambda name: name in common)
    options = [_option(name, found[name]) for name in ordered]
    named = {option.panel: _most_common(options, option.panel) for option in options}
    titled = (_under_its_title(option, named[option.panel]) for option in options)
    return tuple(sorted(titled, key=lambda option: (option.name in common, not option.told)))


def _option(name: str, kinds: list[str]) -> FieldOption:
    """The option of a field that these kinds have, under the heading of the part of a request that brings it."""
    request = KINDS[kinds[0]]
    part = next(part for part in reversed(request.__mro__) if name in inspect.get_annotations(part))
    about = "" if part in KINDS.values() else getattr(part, "about", "")
    option = kind_option(request, name, () if len(kinds) == len(SUBMITTED) else tuple(kinds))
    return replace(option, panel=about)


def _most_common(options: Iterable[FieldOption], panel: str) -> tuple[str, ...]:
    """The kinds that most fields under a heading are for."""
    return Counter(option.kinds for option in options if option.panel == panel).most_common(1)[0][0]


def _under_its_title(option: FieldOption, kinds: tuple[str, ...]) -> FieldOption:
    """The heading of its panel with the kinds that it is for; a kind's own fields have no other heading."""
    kinds = kinds if option.panel else option.kinds
    title = ", for ".join(filter(None, (option.panel, ", ".join(kinds))))
    return replace(option, panel=title[:1].upper() + title[1:], told=option.kinds == kinds)


def kind_option(request: type[JobRequest], name: str, kinds: tuple[str, ...] = ()) -> FieldOption:
    """The option of one field of a kind."""
    return FieldOption(name, _plain(request, name), kinds, name in request.inputs)


@cache
def _schema(request: type[JobRequest]) -> Mapping[str, Any]:
    return request.model_json_schema()


def _plain(request: type[JobRequest], name: str) -> Mapping[str, Any]:
    """The schema of a field without the null that stands for leaving it out, and without references."""
    whole = _schema(request)
    return _resolved(whole["properties"][name], whole.get("$defs", {}))


def _resolved(schema: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    merged = {**(choices[0] if choices else {}), **schema}
    found = {**known.get(str(merged.get("$ref", "")).rpartition("/")[2], {}), **merged}
    if "properties" in found:
        found["properties"] = {name: _resolved(part, known) for name, part in found["properties"].items()}
    return found


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is not None and high is not None and high < 2**53 - 1:
        above = "" if "minimum" in schema else "above "
        yield f"; {above}{low:g} to {high:g}" if isinstance(high, float) else f"; {above}{low} to {high}"
    if choices := schema.get("enum"):
        yield f"; one of {', '.join(map(str, choices))}; default: {schema.get('filled', schema.get('default'))}"


def _parts(schema: Mapping[str, Any]) -> str:
    """The names that a field of several values has."""
    parts = schema.get("properties", {})
    said = {
        name: "".join([part.get("description", ""), *_bounds(part)]).removeprefix("; ") for name, part in parts.items()
    }
    named = [f"{name} ({text})" if text else name for name, text in said.items()]
    return f"; NAME=VALUE,... or JSON of: {', '.join(named)}" if named else ""


def takes_fields(command: Command) -> Command:
    """Gives a command an option for every field of a request; it finds them among its keyword arguments."""
    return takes(field_options())(command)


def takes(options: Iterable[FieldOption]) -> Callable[[Command], Command]:
    """Gives a command these options."""

    def with_options(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        first = [one for one in own if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        fields = [option.parameter for option in options]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*first, *fields, *own[len(first) :]]
        )
        return command

    return with_options


def given_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that the options name, by the request's own names."""
    fields = {name: options[name] for name in ("prompt", "kind") if options.get(name) is not None}
    for option in field_options():
        if options.get(option.name) not in (None, []):
            fields[option.name] = option.value(options[option.name])
    seeds = fields.pop("seed", [])
    if seeds:
        fields |= {"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}
    return fields


def _separate(given: Iterable[str]) -> list[str]:
    """What was given by repeating the option, or between commas; a scale with a comma stays whole, to be refused."""
    return [part.strip() for one in given for part in ([one] if _DECIMAL_COMMA.fullmatch(one) else one.split(","))]


def kind_of(fields: Iterable[str]) -> str:
    """The kind that is meant where none is named: the first that has all of the fields.

    Where none has them all, it is the one that has most of them; a field says the more, the fewer kinds have it.
    """
    having = {name: [kind for kind, request in SUBMITTED.items() if name in request.model_fields] for name in fields}
    return max(SUBMITTED, key=lambda kind: math.fsum(1 / len(kinds) for kinds in having.values() if kind in kinds))


def moment(text: str) -> str:
    """`+90` as the moment 90 seconds from now."""
    seconds = number(text, float) if text.startswith("+") else text
    try:
        return text if isinstance(seconds, str) else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    except (ValueError, OverflowError):
        return text


def _pairs(text: str, parts: Mapping[str, Mapping[str, Any]]) -> Any:
    """`scale=1.5,upscale=latent` as a mapping; JSON, too, and the only form where the names are the caller's own."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if not parts or text.lstrip().startswith("{") or not all(equal for _, equal, _ in pairs):
        return _json(text)
    if len(set(names)) < len(names):
        return text
    return {name: _part(value.strip(), parts.get(name, {})) for name, (_, _, value) in zip(names, pairs, strict=True)}


def _part(text: str, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return number(text, int if kind == "integer" else float)
    return {"true": True, "false": False}.get(text.lower(), text) if kind == "boolean" else text


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text  # the request wants a mapping, and says so
