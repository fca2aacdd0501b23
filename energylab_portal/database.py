"""The portal's database: SQLite with a write-ahead log by default, PostgreSQL by URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from energylab.errors import PortalError
from energylab_portal.tables import Base

#: Longest wait of a writer for another process's transaction, in seconds.
_PATIENCE_S = 30.0
#: SQLite allows one writer per database; on PostgreSQL every writer takes this advisory lock instead.
_ONE_WRITER = text("SELECT pg_advisory_xact_lock(8320001)")
#: Timeouts, so that a writer that stopped or lost its machine loses its transaction and does not block the others.
_BOUNDED = text("SELECT set_config('lock_timeout', :ms, true), "
                 "set_config('idle_in_transaction_session_timeout', :ms, true)")  # fmt: skip


class Database:
    """The portal's tables. Creating this object opens no connection."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError:
            raise PortalError("invalid database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME") from None
        if self._url.drivername in ("postgresql", "postgres"):
            self._url = self._url.set(drivername="postgresql+psycopg")
        self._clock = clock
        self._engine: Engine | None = None
        # one writer per process: others wait here, not in SQLite's sleep and retry
        self._writer = threading.Lock() if self.is_sqlite else nullcontext()

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def open(self) -> Database:
        """Connect, and create missing tables."""
        try:
            self._engine = self._make_engine()
            with self._engine.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(_ONE_WRITER)
                Base.metadata.create_all(connection)
        except SQLAlchemyError as error:
            shown = self._url.render_as_string(hide_password=True)
            raise PortalError(f"cannot open {shown} ({type(error).__name__}): check the URL and the server") from error
        return self

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _make_engine(self) -> Engine:
        # errors must not print the parameters of statements, which include mail addresses and keys
        shared: dict[str, Any] = {"hide_parameters": True, "pool_size": 50, "max_overflow": 10}
        if not self.is_sqlite:
            # after waiting for the lock, a transaction must see the last writer's changes
            return create_engine(self._url, pool_pre_ping=True, isolation_level="READ COMMITTED", **shared)
        engine = create_engine(self._url, connect_args={"timeout": _PATIENCE_S}, **shared)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a read-only session, which waits for no writer and sees one consistent state."""
        with Session(self._ready(), expire_on_commit=False, info={"clock": self._now}) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose changes are stored when the block ends, all of them or none.

        Only one such block runs at a time, over all processes, so its reads stay valid until its writes.
        """
        engine = self._ready().execution_options(writes=True)
        told = {"expire_on_commit": False, "info": {"clock": self._now}}
        with self._writer, Session(engine, **told) as session, session.begin():
            if not self.is_sqlite:
                session.execute(_BOUNDED, {"ms": f"{_PATIENCE_S * 1000:.0f}"})
                session.execute(_ONE_WRITER)
            yield session

    def _ready(self) -> Engine:
        if self._engine is None:
            raise PortalError("the database is not open; call open() first")
        return self._engine

    def _now(self, session: Session) -> float:
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return time.time()
        return float(session.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Configure a connection: explicit transactions; readers and the writer do not wait for each other."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_PATIENCE_S * 1000:.0f}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
