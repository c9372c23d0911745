"""What the actors of all backends have in common: restarts, and an end to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self, TypeVar

from muzero_rc.compute.scheduler import Crash, CrashLimitError, Resources
from muzero_rc.errors import InputError

__all__ = ["ActorGroupBase"]

MemberT = TypeVar("MemberT")


class ActorGroupBase(ABC, Generic[MemberT]):
    """A group of actors but for running them.

    Attributes:
      crashes: actors that had to be started again.
      needs: of all actors together.
      closed: whether the actors were ended.
    """

    def __init__(
        self,
        count: int,
        needs: Resources,
        most_crashes: int,
        on_restart: Callable[[Crash], None],
    ) -> None:
        """Starts nothing yet.

        Args:
          count: actors.
          needs: of each.
          most_crashes: so many in a row end the group.
          on_restart: told why an actor was started again.
        """
        if count < 1:
            raise InputError(f"there must be at least 1 actor, not {count}")
        self.crashes = 0
        self.needs = needs * count
        self.closed = False
        self._count = count
        self._most_crashes = most_crashes
        self._on_restart = on_restart
        self._in_a_row = 0
        self._started = 0
        self._members: list[MemberT] = []

    # ------------------------------------------------------------ for backends

    @abstractmethod
    def _start(self, number: int) -> None:
        """Starts an actor and adds it to `_members`."""

    @abstractmethod
    def _news(self, wait_s: float) -> Sequence[tuple[MemberT, Any]]:
        """What actors have sent: results, and `Crash` as an actor's last."""

    @abstractmethod
    def _end(self, members: Sequence[MemberT]) -> None:
        """Ends actors, dead or alive, within seconds."""

    def _release(self) -> None:  # noqa: B027  # most have nothing
        """Removes what published values needed."""

    @abstractmethod
    def publish(self, value: Any) -> None:
        """See `ActorGroup.publish`."""

    # ------------------------------------------------------------ the protocol

    def start(self) -> None:
        """Starts all actors."""
        for _ in range(self._count):
            self._start_one()

    def _start_one(self) -> None:
        number = self._started
        self._started += 1
        self._start(number)

    def receive(self, wait_s: float) -> list[Any]:
        """See `ActorGroup.receive`."""
        found: list[Any] = []
        for member, news in self._news(wait_s):
            if isinstance(news, Crash):
                self._restart(member, news)
            else:
                self._in_a_row = 0
                found.append(news)
        return found

    def _restart(self, member: MemberT, crash: Crash) -> None:
        self._members.remove(member)
        self._end([member])
        self.crashes += 1
        self._in_a_row += 1
        if self._in_a_row >= self._most_crashes:
            raise CrashLimitError(self._in_a_row, crash)
        self._on_restart(crash)
        self._start_one()

    def close(self) -> None:
        """See `ActorGroup.close`."""
        if self.closed:
            return
        self.closed = True
        try:
            self._end(self._members)
            self._members.clear()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
