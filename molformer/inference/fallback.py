"""A predictor that asks a second model for what the first does not know: elements, charges and sizes.

A molecule that the first model knows but finds unusual stays with it, flagged as out of domain.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from molformer.data.conformers import ConformerPolicy
from molformer.data.readers import Entry
from molformer.errors import InputError
from molformer.inference.models import DEFAULT, FALLBACK, shipped
from molformer.inference.prediction import Prediction
from molformer.inference.predictor import Predictor
from molformer.inference.request import PredictionRequest
from molformer.inference.sources import with_geometries
from molformer.inference.table import Layout
from molformer.targets import Label
from molformer.uncertainty.applicability import outside

CHUNK = 256
"""Molecules that the first model answers before the second is asked for the rest of them."""


class FallbackPredictor:
    """Rows of the first predictor, or of the second where the first cannot or should not answer.

    Args:
        first: a predictor.
        second: one with targets of other names.
        names: of both models, which rows give.
    """

    def __init__(self, first: Predictor, second: Predictor, names: tuple[str, str] = (DEFAULT, FALLBACK)) -> None:
        self.predictors = (first, second)
        self.names = names

    @property
    def targets(self) -> tuple[Label, ...]:
        """Those of both."""
        return tuple(target for each in self.predictors for target in each.model.targets)

    @property
    def known(self) -> dict[str, str]:
        """As `Predictor.known`."""
        return {name: each.known[""] for name, each in zip(self.names, self.predictors, strict=True)}

    def stream(
        self,
        entries: Iterable[Entry],
        request: PredictionRequest,
        conformers: int | None = None,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int = 0,
        geometry: str | None = None,
    ) -> Iterator[Prediction]:
        """As `Predictor.stream`."""
        first, second = self.predictors
        count = first.model.domain.conformers if conformers is None else conformers
        made = iter(with_geometries(entries, first.policy(geometry, count, policy), processes, count))
        requests = [request.only(each.model.targets) for each in self.predictors]
        if not requests[0].targets:  # only the second can answer
            for row in second.stream(made, requests[1], count, strict):
                yield replace(row, model=self.names[1])
            return
        while chunk := list(islice(made, CHUNK)):
            rows = [
                replace(row, model=self.names[0]) for row in first.stream(chunk, requests[0], count, geometry=geometry)
            ]
            unknown = [place for place, row in enumerate(rows) if requests[1].targets and self._is_unknown(row)]
            for place, row in zip(
                unknown, second.stream([chunk[place] for place in unknown], requests[1], count), strict=True
            ):
                if row.values:
                    rows[place] = replace(row, model=self.names[1])
            for row in rows:
                if strict and not row.values:
                    raise InputError(row.message)
                yield row

    def layout(self, request: PredictionRequest, conformers: int | None = None) -> Layout:
        """As `Predictor.layout`, with a column for the name of the model."""
        first, second = (each.layout(request.only(each.model.targets), conformers) for each in self.predictors)
        return replace(
            first,
            targets=request.shown,
            intervals=first.intervals | second.intervals,
            percentile=first.percentile or second.percentile,
            models=True,
        )

    def _is_unknown(self, row: Prediction) -> bool:
        first = self.predictors[0]
        known = row.structure is not None and not outside(first.model.domain, first.calibrations[0], row.structure)
        return row.status == "unsupported_element" or (row.status == "out_of_domain" and not known)


def default_predictor(device: str = "auto", batch_size: int = 32, memory: float = 4.0) -> FallbackPredictor | None:
    """The shipped model for what it knows, and the pretrained encoder for the rest; None if one of them is missing."""
    if not {DEFAULT, FALLBACK} <= set(shipped()):
        return None
    first, second = (Predictor.load(name, device, batch_size, memory) for name in (DEFAULT, FALLBACK))
    return FallbackPredictor(first, second)
