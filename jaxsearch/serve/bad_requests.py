"""The answers to requests that are not understood."""

import json
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

_MAX_ERRORS = 5
_MAX_INPUT_CHARS = 200


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """The answer to a body with wrong fields, in FastAPI's own form.

    A part of the body is repeated only if it is short: the whole of it may be
    megabytes, NaN or no text. R1-Searcher's server is written with Flask, which has
    other statuses.
    """
    assert isinstance(error, RequestValidationError)
    details = [_shortened(detail) for detail in error.errors()[:_MAX_ERRORS]]
    status = 422
    if request.url.path.endswith("/queries"):
        kinds = {detail["type"] for detail in details}
        if "json_invalid" in kinds:
            status = 400
        elif "model_attributes_type" in kinds and isinstance(error.body, bytes):
            status = 415
    return JSONResponse({"detail": details}, status)


def _shortened(detail: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: detail[key]
        for key in ("type", "loc", "msg", "input", "ctx")
        if key in detail
    }
    if isinstance(kept.get("input"), bytes):
        kept["input"] = kept["input"].decode(errors="replace")
    for key in ("input", "ctx"):
        if key in kept and not _is_short(kept[key]):
            del kept[key]
    # A name of a field in `loc` may be a client's.
    kept["loc"] = [
        part if isinstance(part, int) else part[:_MAX_INPUT_CHARS]
        for part in kept["loc"]
    ]
    return kept


def _is_short(value: Any) -> bool:
    """Whether a value is short JSON of whole characters."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return len(text.encode()) <= _MAX_INPUT_CHARS
    except (TypeError, ValueError, RecursionError):
        return False


def add_unknown_index(app: FastAPI, names: list[str], paths: frozenset[str]) -> None:
    """Answers for indexes that the server does not have, with the names it has."""

    async def unknown(name: str, path: str) -> None:
        if path not in paths:
            raise HTTPException(404, "Not Found")
        raise HTTPException(
            404, f"no index {name[:80]!r}; this server has: {', '.join(names)}"
        )

    app.add_api_route(
        "/{name}/{path}", unknown, methods=["GET", "POST"], include_in_schema=False
    )
