"""The addresses of the server, as a FastAPI application."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from molformer.elements import SYMBOLS
from molformer.errors import MolformerError, encodable
from molformer.inference.request import PredictionRequest
from molformer.serving import schema
from molformer.serving.guard import Guard
from molformer.serving.metrics import CONTENT_TYPE
from molformer.serving.reading import UPLOADS
from molformer.serving.service import Busy, Service, TooMuch
from molformer.version import __version__

PAGE = Path(__file__).parent / "page"

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": schema.Problem, "description": "There is no such target, unit or kind of file."},
    413: {"model": schema.Problem, "description": "The request is too large."},
    422: {"model": schema.Problem, "description": "The request has not the form that it should have."},
    503: {"model": schema.Problem, "description": "Too much is waiting."},
    504: {"model": schema.Problem, "description": "It took too long."},
}


def create_app(service: Service, hosts: Container[str] | None = None) -> FastAPI:
    """The application that answers for a service, which it closes at its end."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.preparation.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="molformer",
        version=__version__,
        description=f"Predictions of the model {service.name}.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    limits = service.limits

    @app.post("/predict", responses=_PROBLEMS)
    async def predict(asked: schema.PredictionRequest, request: Request) -> schema.PredictionResponse:
        """Predict molecules: a row for each, in order, also for failures."""
        wanted = PredictionRequest.of(service.predictor.model.targets, asked.targets, asked.unit)
        rows = await service.predict(asked.molecules, wanted, asked.conformers, _address(request), asked.method)
        return schema.PredictionResponse(model=service.name, rows=[schema.row_of(row, asked.geometry) for row in rows])

    @app.post("/predict/file", responses=_PROBLEMS)
    async def predict_file(
        file: Annotated[UploadFile, File(description=f"A file of molecules: {', '.join(UPLOADS)}, each also .gz.")],
        request: Request,
        targets: Annotated[list[str], Form(description="What to predict; all by default.")] = [],  # noqa: B006
        unit: Annotated[str, Form(description="Of all targets that it can measure.")] = "",
        conformers: Annotated[schema.Conformers | None, Form()] = None,
        method: Annotated[schema.Method | None, Form()] = None,
        geometry: Annotated[bool, Form(description="Whether the geometries are wanted.")] = False,
    ) -> schema.PredictionResponse:
        """Predict the molecules of a file: a row for each, in order, also for failures."""
        names = [name for name in targets if name]
        wanted = PredictionRequest.of(service.predictor.model.targets, names, unit or None)
        address = _address(request)
        entries = await service.entries_of_file(await file.read(), file.filename or "", address)
        rows = await service.predict(entries, wanted, conformers, address, method)
        return schema.PredictionResponse(model=service.name, rows=[schema.row_of(row, geometry) for row in rows])

    @app.post("/explain", responses=_PROBLEMS)
    async def explain(asked: schema.Molecule, request: Request) -> schema.Explanation:
        """Atomic contributions to a prediction, and the attention that each atom receives."""
        return await service.explain(asked.molecule, _address(request))

    @app.get("/models")
    async def models() -> list[schema.Model]:
        """What is served."""
        model = service.predictor.model
        targets = [
            schema.Target(name=target.name, unit=target.unit, kind=target.kind, classes=list(target.classes))
            for target in model.targets
        ]
        elements = [SYMBOLS[number] for number in model.domain.elements]
        members = len(service.predictor.models)
        largest = model.domain.max_atoms
        return [schema.Model(name=service.name, targets=targets, elements=elements, largest=largest, members=members)]

    @app.get("/health", responses={503: {"model": schema.Problem, "description": "The model is stuck."}})
    async def health() -> schema.Health:
        """Whether the server works."""
        if service.is_stuck():
            raise Busy("the model has computed one batch for longer than a request may take: restart the server")
        return schema.Health(status="ok", model=service.name, version=__version__)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    _add_pages(app)
    _add_errors(app)
    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", "")))
    app.add_middleware(Guard, limits=limits, metrics=service.metrics, paths=paths, hosts=hosts)
    return app


def _add_pages(app: FastAPI) -> None:
    """The page for people, and the one of the API with the scripts of an installed package."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.mount("/swagger", StaticFiles(directory=str(files("fastapi_offline") / "static")), name="swagger")


def _add_errors(app: FastAPI) -> None:
    """Errors in one line, as everywhere."""

    @app.exception_handler(MolformerError)
    async def of_a_user(_: Request, error: MolformerError) -> JSONResponse:
        status = 413 if isinstance(error, TooMuch) else 503 if isinstance(error, Busy) else 400
        return _problem(str(error), status, {"retry-after": "5"} if status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def of_form(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _problem(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 422)

    @app.exception_handler(Exception)
    async def of_ours(_: Request, error: Exception) -> JSONResponse:
        return _problem("an error of the server; it is in its log", 500)


def _address(request: Request) -> tuple[str, int]:
    return (request.client.host, request.client.port) if request.client else ("", 0)


def _problem(detail: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": encodable(detail)}, status, headers)
