"""What happens to calls on their way to the CRM, and what people do there, by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Final

from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    QuotaExhausted,
    RateLimited,
)
from tests.simulation.crm import ACCOUNTS, DEALS, SPOILT, Crm
from tests.simulation.installation import CONNECTION
from tests.simulation.world import World

_STAGES: Final = ("open", "won", "lost")


@dataclass
class Weather:
    """`tests.simulation.connector.Wire` on a bad day."""

    world: World
    chance: Random
    trouble: float = 0.04
    """The share of calls that something happens to, each way."""
    lost_answers: int = 0
    """Writes that were done and of which nobody was told."""

    def sent(self, what: str) -> None:
        """Most calls arrive.

        Raises:
            ConnectorError: This one does not.
        """
        if self.chance.random() >= self.trouble:
            return
        kind = self.chance.randrange(6)
        self.world.tell(f"weather {kind} on the way of {what}")
        if kind == 0:
            # Longer than a lease: what is held must be kept alive beside it.
            self.world.sleep(self.chance.choice((4, 12, 35)))
            return
        raise self._fault(kind)

    def answered(self, what: str) -> None:
        """Most answers arrive.

        Raises:
            ConnectorError: This one does not.
        """
        if self.chance.random() >= self.trouble:
            return
        self.world.tell(f"the answer of {what} is lost")
        if what.startswith("write"):
            self.lost_answers += 1
            raise CrmUnavailable(CONNECTION, "the connection broke before the answer came")
        raise MalformedAnswer(CONNECTION, "the answer is cut off")

    def _fault(self, kind: int) -> ConnectorError:
        if kind == 1:
            return RateLimited(CONNECTION, "too many calls", self.chance.choice((2.0, 70.0)))
        if kind == 2:
            return CrmUnavailable(CONNECTION, "503, come back later")
        if kind == 3:
            until = self.world.now + timedelta(seconds=40)
            return QuotaExhausted(CONNECTION, "no calls are left", until)
        return CrmUnavailable(CONNECTION, "no connection")


class People:
    """Somebody who edits, deletes, merges and restores at random, as nobody else at that time."""

    def __init__(self, crm: Crm, chance: Random) -> None:
        self._crm = crm
        self._chance = chance
        self._made = 0

    def act(self) -> None:
        """Do one thing."""
        deals = [row.id for row in self._crm.alive(DEALS)]
        accounts = [row.id for row in self._crm.alive(ACCOUNTS)]
        deal = self._chance.choice(deals)
        amount = Decimal(self._chance.randrange(100, 99_999)) / 100
        match self._chance.choices(range(9), weights=(6, 6, 3, 3, 2, 2, 1, 2, 1))[0]:
            case 0:
                self._crm.edit(DEALS, deal, amount=amount)
            case 1:
                self._crm.edit(DEALS, deal, stage=self._chance.choice(_STAGES))
            case 2:
                self._crm.edit(DEALS, deal, account=self._chance.choice(accounts))
            case 3:
                self._sell(amount, self._chance.choice(accounts))
            case 4 if len(deals) > 3:
                self._crm.delete(DEALS, deal)
            case 5:
                gone = sorted(one.id for one in self._crm.rows[DEALS].values() if one.deleted)
                if gone:
                    self._crm.restore(DEALS, self._chance.choice(gone))
            case 6 if len(accounts) > 3:
                winner, loser = self._chance.sample(accounts, 2)
                self._crm.merge(winner, loser)
            case 7:
                self._crm.edit(DEALS, deal, amount=SPOILT)
            case _:
                self._crm.locked[self._chance.choice(accounts)] = 1

    def _sell(self, amount: Decimal, account: str) -> None:
        self._made += 1
        late = self._chance.choice((None, None, timedelta(seconds=20)))
        self._crm.make(
            DEALS,
            f"n{self._made}",
            late=late,
            name=f"Deal of the day {self._made:04d}",
            account=account,
            owner="u1",
            stage=self._chance.choice(_STAGES),
            amount=amount,
            day="2026-06-15",
        )
