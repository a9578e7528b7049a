"""Applications around the server's own that look at each request once it was answered: how it ended, after how long."""

import time
from abc import ABC, abstractmethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Observer(ABC):
    """An application that answers as another one does, and is told of each request afterwards."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            self.answered(scope, status, time.perf_counter() - began)

    @abstractmethod
    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """What is done once a request was answered; the status is 0 where no answer began."""
