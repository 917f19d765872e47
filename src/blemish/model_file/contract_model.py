"""The base class of the parts of a contract, and the types of their numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Side = Annotated[int, Field(ge=1, le=2**15)]  # pixels
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class ContractModel(BaseModel):
    """Base class of the parts of a contract: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
