"""A service that does nothing but live, with a heart that beats five times a second."""

from __future__ import annotations

import os

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from tidegate import Tidegate, heartbeat
from tidegate.database import asyncpg_url

for constant in ("EVERY", "_AGAIN"):
    setattr(heartbeat, constant, 0.2)

app = FastAPI()
Tidegate(app, engine=create_async_engine(asyncpg_url(os.environ["DATABASE_URL"])))
