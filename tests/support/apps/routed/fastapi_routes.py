from __future__ import annotations

from fastapi import APIRouter, FastAPI

router = APIRouter(prefix="/shop")


@router.get("/product/{name}")
async def product(name: str) -> str:
    return name


inner = FastAPI()
inner.include_router(router)
app = FastAPI()
app.include_router(router)
app.mount("/inner", inner)
