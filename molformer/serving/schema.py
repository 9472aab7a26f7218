"""What goes over the wire: requests and answers, and how predictions become answers."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from molformer.elements import SYMBOLS
from molformer.inference.prediction import Prediction, Status, Value
from molformer.serving.limits import MOST_CONFORMERS, MOST_NAMES
from molformer.structure import Structure

Numbers = float | list[float | None] | list[list[float | None]] | None
"""A number, those of a vector, or of the atoms; null where there is none."""

Conformers = Annotated[
    int, Field(ge=1, le=MOST_CONFORMERS, description="Geometries of a molecule without coordinates, to average over.")
]

Method = Annotated[
    Literal["etkdg", "refined"],
    Field(description="How geometries of molecules without coordinates are made; by default the model's choice."),
]

Names = Annotated[list[Annotated[str, Field(max_length=1000)]], FailFast(), Field(max_length=MOST_NAMES)]


class _Request(BaseModel):
    """A request, whose errors are not collected one by one where there may be millions of them."""

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, values: Any) -> Any:
        if isinstance(values, dict) and len(values) > MOST_NAMES:
            raise ValueError(f"{len(values)} keys, more than the {MOST_NAMES} that a request may have")
        return values


class PredictionRequest(_Request):
    """Molecules and what is to be predicted of them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"molecules": ["CCO", "c1ccccc1"], "conformers": 1}]}
    )

    molecules: Annotated[list[str], FailFast()] = Field(
        description="SMILES, or the content of an XYZ file or MOL block, one molecule each."
    )
    targets: Names = Field([], description="What to predict; all by default.")
    unit: str | Annotated[dict[str, str], Field(max_length=MOST_NAMES)] | None = Field(
        None, description="Of all targets that it can measure, or by their name."
    )
    conformers: Conformers | None = None
    method: Method | None = None
    geometry: bool = Field(False, description="Whether the geometries that were used are wanted.")


class Molecule(_Request):
    """One molecule."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"molecule": "CCO"}]})

    molecule: str = Field(description="A SMILES, or the content of an XYZ file or MOL block.")


class Number(BaseModel):
    """A predicted value."""

    value: Numbers = Field(description="Of a class, its probability.")
    unit: str
    std: Numbers = Field(None, description="Standard deviation over conformers and models.")
    interval: tuple[Numbers, Numbers] | None = Field(None, description="Held the truth for 90 % of the validation set.")


class Geometry(BaseModel):
    """Atoms and their places, Å."""

    symbols: list[str]
    positions: list[tuple[float, float, float]]
    charge: int


class Row(BaseModel):
    """What became of one molecule."""

    name: str
    status: Status
    message: str = Field(description="Why there are no values, or why they should not be relied on.")
    formula: str
    percentile: float | None = Field(
        None, description="Share of the validation set, in %, with no larger expected error."
    )
    values: dict[str, Number] = Field(description="By the name of the target; empty where it failed.")
    geometry: Geometry | None = None


class PredictionResponse(BaseModel):
    """A row for every molecule, in their order."""

    model: str
    rows: list[Row]


class Explanation(BaseModel):
    """Where in a molecule a prediction comes from."""

    geometry: Geometry
    contributions: dict[str, list[float | None]] = Field(
        description="Part of each atom by the name of the target, beyond the mean of its element."
    )
    units: dict[str, str] = Field(description="Of the contributions.")
    attention: list[float] = Field(description="Attention that each atom receives, the mean over layers and heads.")


class Target(BaseModel):
    """A target of a model."""

    name: str
    unit: str
    kind: str
    classes: list[str]


class Model(BaseModel):
    """A model that is served."""

    name: str
    targets: list[Target]
    elements: list[str]
    largest: int = Field(description="Atoms of the largest structure of the training set.")
    members: int = Field(description="Models of the ensemble.")


class Health(BaseModel):
    """Whether the server works."""

    status: str
    model: str
    version: str


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def row_of(prediction: Prediction, geometry: bool) -> Row:
    """A prediction as it is answered."""
    structure = prediction.structure
    return Row(
        name=prediction.name,
        status=prediction.status,
        message=prediction.message,
        formula=structure.formula if structure else "",
        percentile=prediction.percentile,
        values={name: number_of(value) for name, value in prediction.values.items()},
        geometry=geometry_of(structure) if structure and geometry else None,
    )


def number_of(value: Value) -> Number:
    """A value as it is answered."""
    interval = None if value.interval is None else (numbers(value.interval[0]), numbers(value.interval[1]))
    std = None if value.std is None else numbers(value.std)
    return Number(value=numbers(value.value), unit=value.unit, std=std, interval=interval)


def geometry_of(structure: Structure) -> Geometry:
    """A structure as it is answered."""
    symbols = [SYMBOLS[number] for number in structure.numbers]
    return Geometry(symbols=symbols, positions=structure.pos.tolist(), charge=structure.charge)


def numbers(array: Any) -> Any:
    """Numbers as lists, null for those that are not finite, which JSON has not."""
    values = np.asarray(array, dtype=np.float64)
    return np.where(np.isfinite(values), values.astype(object), np.array(None)).tolist()
