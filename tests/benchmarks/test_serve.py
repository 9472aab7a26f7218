from benchmarks import serve
from tests.serving.conftest import client, predictor  # noqa: F401 - fixtures


def test_every_figure_is_measured(client, monkeypatch):  # noqa: F811
    monkeypatch.setattr(serve, "CLIENTS", 3)
    rows = dict(serve.measure(str(client.base_url).rstrip("/"), 2, [1, 6, 8]))
    assert rows["answered"].startswith("6 of 6, ")
    assert 1 <= float(rows["molecules in a pass of the model"]) <= 3
    assert "a molecule after 30 malformed requests" in rows
