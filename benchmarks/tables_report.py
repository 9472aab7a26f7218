"""The report of `benchmarks.tables`: errors, ranks, wins with a test of significance, and costs, as Markdown.

An error of classes is 100 minus the ROC-AUC in %, so that less is better for all. The test is Wilcoxon's signed-rank
test, two-sided, on the logarithms of the ratios of two methods' errors, a pair for each set.
"""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

Results = Mapping[str, Mapping[str, Sequence[float]]]
"""Values by method and set, one for each seed."""


def report(
    results: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    published: Mapping[str, Mapping[str, float]],
    part: str = "test",
) -> str:
    """Tables of all results for a part.

    Args:
        results: lines of the file of results; of several with the same set, method, seed and part the last counts.
        titles: by method, in the order of the report.
        published: RMSE of others on the test part, by set and method.
        part: `test` or `validation`.
    """
    last = {(row["set"], row["method"], row["seed"]): row for row in results if row["part"] == part}
    if not last:
        return f"no results for the {part} part yet"
    rows = list(last.values())
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row["method"]][row["set"]].append(row["value"])
    sets = sorted({row["set"] for row in rows}, key=lambda name: (not name.startswith("CHEMBL"), name))
    classes = {row["set"] for row in rows if row["measure"] != "RMSE"}
    methods = [name for name in titles if name in values]
    others = {name: f"{name} (published)" for found in published.values() for name in found} if part == "test" else {}
    for name in others:
        values[name] = {key: [found[name]] for key, found in published.items() if key in sets}
    others = {name: title for name, title in others.items() if values[name]}
    names = {**{name: titles[name] for name in methods}, **others}
    errors = {
        name: {key: _error(np.mean(found), key in classes) for key, found in values[name].items()} for name in names
    }
    parts = [
        f"Errors on {part} parts: RMSE, or ROC-AUC in % of {', '.join(sorted(classes)) or 'no set'}; mean ± standard "
        "deviation over seeds.",
        _errors(sets, classes, names, values),
        _summary(methods, names, errors, rows),
        "Sets on which the method of the row has the lower error than that of the column, and p of Wilcoxon's "
        "signed-rank test over these sets.",
        _wins(names, errors, methods),
    ]
    if missing := sum(row["missing"] for row in rows):
        parts.append(f"{missing} predictions are means of the training part, as there was no geometry.")
    parts += [f"Measured on {line}." for line in sorted({_where(row) for row in rows})]
    return "\n\n".join(parts)


def _error(value: float, is_class: bool) -> float:
    return float(100 - value if is_class else value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _errors(sets: Sequence[str], classes: Container[str], names: Mapping[str, str], values: Results) -> str:
    """A row for each set, and the mean over sets of MoleculeACE."""
    rows = []
    for key in sets:
        digits = 1 if key in classes else 3
        rows.append([key, *(_spread(values[name].get(key, ()), digits) for name in names)])
    ace = [key for key in sets if key.startswith("CHEMBL")]
    cells = []
    for name in names:
        means = [np.mean(values[name][key]) for key in ace if key in values[name]]
        whole = "" if len(means) == len(ace) else f" ({len(means)} sets)"
        cells.append(f"{np.mean(means):.3f}{whole}" if means else "")
    return _table(["set", *names.values()], [*rows, [f"mean of {len(ace)} MoleculeACE sets", *cells]])


def _spread(found: Sequence[float], digits: int) -> str:
    if not len(found):
        return ""
    spread = f" ± {np.std(found, ddof=1):.{digits}f}" if len(found) > 1 else ""
    return f"{np.mean(found):.{digits}f}{spread}"


def _summary(
    methods: Sequence[str],
    names: Mapping[str, str],
    errors: Mapping[str, Mapping[str, float]],
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """Mean rank over the sets that all measured methods have, and cost."""
    from scipy.stats import rankdata

    common = sorted(set.intersection(*(set(errors[name]) for name in methods)))
    ranks = np.array([rankdata([errors[name][key] for name in methods]) for key in common]).reshape(-1, len(methods))
    lines = []
    for index, name in enumerate(methods):
        own = [row for row in rows if row["method"] == name]
        minutes = sum(row["cpu_seconds"] for row in own) / 60
        cost = 1000 * minutes / sum(row["molecules"] for row in own)
        rank = f"{ranks[:, index].mean():.2f}" if common else ""
        lines.append([names[name], rank, str(len(errors[name])), f"{cost:.2f}"])
    return _table(
        ["method", f"mean rank on {len(common)} common sets", "sets", "CPU minutes for 1,000 molecules"], lines
    )


def _wins(names: Mapping[str, str], errors: Mapping[str, Mapping[str, float]], methods: Sequence[str]) -> str:
    lines = []
    for name in methods:
        cells = [compare(errors[name], errors[other]) if other != name else "" for other in names]
        lines.append([names[name], *cells])
    return _table(["", *names.values()], lines)


def compare(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    """Wins over the sets that both have, and p; a tie is half a win.

    Example:
        >>> compare({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 2.0, "b": 3.0, "d": 9.0})
        '2 of 2, p 0.5'
    """
    from scipy.stats import wilcoxon

    common = sorted(set(ours) & set(theirs))
    if not common:
        return ""
    first, second = (np.array([found[key] for key in common]) for found in (ours, theirs))
    wins = float((first < second).sum() + 0.5 * (first == second).sum())
    if (first == second).all():
        return f"{wins:g} of {len(common)}"
    return f"{wins:g} of {len(common)}, p {wilcoxon(np.log(first / second)).pvalue:.2g}"


def _where(row: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in row["versions"].items() if "chemprop" not in name)
    return f"{row['machine']}, {packages}"
