"""The mechanism that all models of a request share: by itself each raises our error, within pydantic pydantic's own."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, model_validator

from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.findings import faults_of, quotable


class Checked(BaseModel):
    """A request, or a part of one. Types are strict: `"512"` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: Fields that name an input, or hold parts that do.
    inputs: ClassVar[tuple[str, ...]] = ()
    #: Fields of others that this one cannot have, and why.
    without: ClassVar[Mapping[str, str]] = {}
    #: What is said of fields that only others have; of kinds of jobs by `darkroom.tasks.requests`.
    absent: ClassVar[Mapping[str, Fault]] = {}

    def __init__(self, **fields: Any) -> None:
        """Raises InvalidRequest with every fault."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidRequest(faults_of(error, self.absent)) from None

    # Pydantic calls an `__init__` of ours for models within models, too, unless it bears the mark of its own.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="wrap")
    @classmethod
    def _faults_can_be_quoted(cls, data: object, validate: ValidatorFunctionWrapHandler) -> Self:
        try:
            found: Self = validate(data)
            return found
        except ValidationError as error:
            raise quotable(error) from None
