"""Predictions from the outputs of the models: values, uncertainties, and the applicability domain.

Letters: K models, L conformers.
"""

from collections.abc import Sequence

import numpy as np

from molformer.data.hydrogens import on_all_atoms
from molformer.errors import NotFiniteError
from molformer.inference.batches import Job
from molformer.inference.prediction import Prediction, Value
from molformer.inference.request import PredictionRequest
from molformer.models.forward import Output
from molformer.models.property import PropertyModel
from molformer.targets import Label
from molformer.uncertainty.applicability import outside, same_geometry_family, untrained_geometry
from molformer.uncertainty.calibration import Calibration


def row_of(
    job: Job,
    outputs: Sequence[Sequence[Output]],
    request: PredictionRequest,
    model: PropertyModel,
    calibrations: Sequence[Calibration | None],
) -> Prediction:
    """The prediction for a job."""
    name = job.entry.name
    if job.error is not None:
        return Prediction(name, job.error.status, str(job.error))  # type: ignore[arg-type]
    structure = job.structures[0]
    reasons = outside(model.domain, calibrations[0], structure) + untrained_geometry(model.domain, structure)
    percentile = None
    assessed = [
        each.assess(each.inputs(output.features, structure.numbers, [len(structure)]), [structure.geometry])
        for each, output in zip(calibrations, outputs[0], strict=True)
        if each is not None
    ]
    if calibrations[0] is not None:
        percentile = None if np.isnan(assessed[0].percentiles[0]) else float(assessed[0].percentiles[0])
        reasons += [reason for reason, far in zip(assessed[0].reasons, assessed[0].far, strict=True) if far]
    values = {}
    # Errors on geometries of another origin than those of the calibration may be larger.
    calibrated = not reasons and all(each and same_geometry_family(each, structure) for each in calibrations)
    for target, shown, factor in zip(request.targets, request.shown, request.factors, strict=True):
        by_model = [[each[place].values[target.name] for each in outputs] for place in range(len(calibrations))]
        widths = [each.half_widths[target.name][0] for each in assessed if target.name in each.half_widths]
        width = max(widths) if calibrated and len(widths) == len(calibrations) else None
        absent = target.kind == "stress" and not structure.periodic
        if not absent and not np.isfinite(by_model).all():
            error = NotFiniteError(f"{name}: the model gives no finite number for '{target.name}' of this structure")
            return Prediction(name, error.status, str(error), job.entry.structure)  # type: ignore[arg-type]
        found = factor * np.array(by_model)
        if target.kind == "charges" and model.config.hydrogens == "implicit":
            found = on_all_atoms(job.entry.structure, found)  # type: ignore[arg-type]
        values[target.name] = aggregated(shown, found, None if width is None else factor * width)
    if reasons:
        message = f"{name}: {'; '.join(reasons)}"
        return Prediction(name, "out_of_domain", message, job.entry.structure, values, percentile)
    return Prediction(name, "ok", structure=job.entry.structure, values=values, percentile=percentile)


def aggregated(target: Label, values: np.ndarray, half_width: float | None = None) -> Value:
    """Mean and standard deviations of the values of K models for L conformers of a molecule.

    Scalars are averaged over models and conformers. Vectors and tensors are averaged over the models for the first
    conformer, that of lowest energy: the orientations of conformers are arbitrary.

    Args:
        target: with the unit of the values.
        values: (K, L, …).
        half_width: of the interval, in the same unit; None for none.
    """
    models, conformers = values.shape[:2]
    directed = bool(target.shape)
    value = values[:, 0].mean(0) if directed else values.mean((0, 1))
    conformer_std = ensemble_std = None
    if conformers > 1:
        by_conformer = values.mean(0)
        if directed:
            by_conformer = np.sqrt(np.square(by_conformer).sum(tuple(range(-len(target.shape), 0))))
        conformer_std = by_conformer.std(0, ddof=1)
    if models > 1:
        ensemble_std = (values[:, 0] if directed else values.mean(1)).std(0, ddof=1)
    if half_width is not None:
        half_width = with_spread(half_width, conformer_std)
    interval = None if half_width is None else (value - half_width, value + half_width)
    return Value(value, target.unit, conformer_std, ensemble_std, interval)


def with_spread(half_width: float, conformer_std: np.ndarray | None) -> float:
    """Half-width of the interval of a mean over conformers: root of the sum of squares of that of one and their spread.

    The half-width of values of atoms is unchanged.
    """
    if conformer_std is None or conformer_std.ndim:
        return half_width
    return float(np.hypot(half_width, conformer_std))
