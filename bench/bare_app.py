"""The least that a FastAPI route can do with a body: read it and answer, nothing kept."""

from fastapi import FastAPI, Request, Response

app = FastAPI(openapi_url=None)


@app.get("/healthz")
async def healthz() -> Response:
    return Response(b"{}", media_type="application/json")


@app.post("/v1/ingest")
async def ingest(request: Request) -> Response:
    body = await request.body()
    return Response(b'{"accepted":%d}' % (len(body) > 0), 202, media_type="application/json")
