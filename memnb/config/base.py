"""What all configs are: frozen, strict, closed to unknown keys, with a digest that stays."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memnb.errors import MemnbError, unknown

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
#: The two sorts of tasks that a run can have, which errors need not name.
SORTS = ("memnb's task", "own task")


class Config(BaseModel):
    """Base of all configs: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values (JSON, TOML, keyword arguments).

        Raises:
            MemnbError: an unknown key, a missing key or an impossible value, in one sentence.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _one_sentence(cls, error) from None

    def but(self, **changes: Any) -> Self:
        """A copy with some values changed, validated again."""
        return self.of({**self.model_dump(), **changes})


def _one_sentence(cls: type[Config], error: ValidationError) -> MemnbError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in SORTS)
    if first["type"] == "extra_forbidden":
        return unknown(f"{cls.__name__} setting", where, cls.model_fields)
    if first["type"] == "union_tag_invalid":
        known = re.findall("'([^']*)'", first["ctx"]["expected_tags"])
        return unknown(where, first["ctx"]["tag"], known)
    if first["type"] == "value_error":
        return MemnbError(str(first["ctx"]["error"]))
    if first["type"] == "missing":
        return MemnbError(f"{cls.__name__} needs a value for '{where}'.")
    given = first.get("input")
    return MemnbError(
        f"{cls.__name__}.{where}: {first['msg'].removesuffix('.')}, but got {given!r}; "
        f"change the value of '{where}'."
    )


def digest(config: Config) -> str:
    """Hash of what differs from the defaults, so that a setting added later changes no old id.

    The price: a default, once published, must never change (a test pins some ids).
    """
    text = json.dumps(_changed(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _changed(config: Config) -> dict[str, Any]:
    """The settings that are required or differ from their default; a name is always among them."""
    found: dict[str, Any] = {}
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if isinstance(value, Config):
            found[key] = _changed(value)
        elif key == "name" or field.is_required() or value != field.default:
            found[key] = value
    return found
