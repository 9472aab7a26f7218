"""From the outputs of the models to the row of an input: values, doubts, and whether they can be relied on."""

from collections.abc import Sequence

import numpy as np

from molformer.errors import NotFiniteError
from molformer.inference.batches import Job
from molformer.inference.calibration import Calibration
from molformer.inference.domain import familiar_geometry, outside
from molformer.inference.forward import Output
from molformer.inference.prediction import Prediction
from molformer.inference.question import Question
from molformer.inference.uncertainty import combined
from molformer.models.property import PropertyModel


def row_of(
    job: Job,
    outputs: Sequence[Sequence[Output]],
    question: Question,
    model: PropertyModel,
    calibrations: Sequence[Calibration | None],
) -> Prediction:
    """The row of a job.

    Args:
        job: what was computed, or the error.
        outputs: for each geometry, those of each model.
        question: targets and units.
        model: the first model, whose domain counts.
        calibrations: of all models.
    """
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
    familiar = not reasons and all(each is not None and familiar_geometry(each, structure) for each in calibrations)
    for target, shown, factor in zip(question.targets, question.shown, question.factors, strict=True):
        by_model = [[each[place].values[target.name] for each in outputs] for place in range(len(calibrations))]
        width = _half_width(target.name, calibrations) if familiar else None
        absent = target.kind == "stress" and not structure.periodic
        if not absent and not np.isfinite(by_model).all():
            error = NotFiniteError(f"{name}: the model gives no finite number for '{target.name}' of this structure")
            return Prediction(name, error.status, str(error), job.entry.structure)  # type: ignore[arg-type]
        values[target.name] = combined(shown, factor * np.array(by_model), None if width is None else factor * width)
    if reasons:
        message = f"{name}: {'; '.join(reasons)}"
        return Prediction(name, "out_of_domain", message, job.entry.structure, values, percentile)
    return Prediction(name, "ok", structure=job.entry.structure, values=values, percentile=percentile)


def _half_width(name: str, calibrations: Sequence[Calibration | None]) -> float | None:
    """Half-width of an interval, in the model's unit; of an ensemble, the widest of its members.

    There is none for a geometry of another origin than those on which it was measured: its error may be larger.
    """
    widths = [None if each is None else each.half_widths.get(name) for each in calibrations]
    known = [width for width in widths if width is not None]
    return max(known) if len(known) == len(widths) else None
