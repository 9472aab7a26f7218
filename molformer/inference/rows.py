"""Predictions from the outputs of the models: values, uncertainties, and the applicability domain."""

from collections.abc import Sequence

import numpy as np

from molformer.errors import NotFiniteError
from molformer.inference.aggregation import aggregated
from molformer.inference.batches import Job
from molformer.inference.prediction import Prediction
from molformer.inference.request import PredictionRequest
from molformer.models.forward import Output
from molformer.models.property import PropertyModel
from molformer.uncertainty.applicability import outside, same_geometry_family
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
    reasons = outside(model.domain, calibrations[0], structure)
    percentile = None
    if calibrations[0] is not None:
        distance = calibrations[0].distance(outputs[0][0].features.mean(0)[None])[0]
        percentile = calibrations[0].percentile(distance)
        if calibrations[0].is_far(distance):
            reasons.append(f"it is farther from the training set than {percentile:.0f} % of the validation set")
    values = {}
    # Errors on geometries of another origin than those of the calibration may be larger.
    calibrated = not reasons and all(each and same_geometry_family(each, structure) for each in calibrations)
    for target, shown, factor in zip(request.targets, request.shown, request.factors, strict=True):
        by_model = [[each[place].values[target.name] for each in outputs] for place in range(len(calibrations))]
        widths = [each.half_widths.get(target.name) for each in calibrations if each and calibrated]
        width = None if None in widths else max(widths, default=None)  # type: ignore[type-var]
        absent = target.kind == "stress" and not structure.periodic
        if not absent and not np.isfinite(by_model).all():
            error = NotFiniteError(f"{name}: the model gives no finite number for '{target.name}' of this structure")
            return Prediction(name, error.status, str(error), job.entry.structure)  # type: ignore[arg-type]
        values[target.name] = aggregated(shown, factor * np.array(by_model), None if width is None else factor * width)
    if reasons:
        message = f"{name}: {'; '.join(reasons)}"
        return Prediction(name, "out_of_domain", message, job.entry.structure, values, percentile)
    return Prediction(name, "ok", structure=job.entry.structure, values=values, percentile=percentile)
