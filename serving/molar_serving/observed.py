"""What looks at each request once it was answered: how it ended, after how long."""

from typing import Protocol

from starlette.types import Scope


class Observer(Protocol):
    """Is told of each request."""

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """What is done once a request was answered; the status is 0 where no answer began."""
