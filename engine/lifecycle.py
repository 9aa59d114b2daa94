"""Orders after the wire: what we believe of each, from what was sent and what was answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.venues.binance import OrderSpec, Reply, order_status


@dataclass(frozen=True, slots=True)
class Order:
    """`status` is `dry-run`, `sent`, `acked`, `rejected` or `unknown`: a timeout is never a
    rejection. Times are CLOCK_MONOTONIC; `sent_ns` is 0 when the send did not come to its end."""

    client_id: str
    spec: OrderSpec
    status: str
    txid: str
    exchange: str
    timestamp_ms: int
    sent_ns: int
    replied_ns: int | None = None
    reason: str = ""

    @property
    def reply_ns(self) -> int | None:
        """From send to answer, where both are known."""
        return self.replied_ns - self.sent_ns if self.replied_ns and self.sent_ns else None

    def as_json(self) -> dict[str, object]:
        return {
            "client_id": self.client_id,
            "side": self.spec.side,
            "symbol": self.spec.symbol,
            "type": self.spec.type,
            "quantity": self.spec.quantity,
            "price": self.spec.price,
            "time_in_force": self.spec.time_in_force,
            "status": self.status,
            "txid": self.txid,
            "exchange": self.exchange,
            "timestamp_ms": self.timestamp_ms,
            "reason": self.reason,
            "reply_ns": self.reply_ns,
        }


class Orders:
    """Every order of this run, by client order id."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def all(self) -> list[Order]:
        return list(self._orders.values())

    def add(self, order: Order) -> None:
        self._orders[order.client_id] = order

    def waiting(self) -> int:
        """Orders without an answer yet."""
        return sum(order.status == "sent" for order in self._orders.values())

    def on_reply(self, reply: Reply, replied_ns: int) -> Order | None:
        """The order this reply settles, as it is now; None when it answers no order. A first answer
        stands: a venue that repeats itself changes nothing."""
        order = self._orders.get(reply.id)
        if order is None or order.status not in ("sent", "unknown"):
            return None
        return self._update(
            replace(order, status=order_status(reply), replied_ns=replied_ns, reason=_why(reply))
        )

    def on_session_end(self, reason: str) -> list[Order]:
        """Orders that had no answer when the connection ended: their outcome is unknown."""
        return [
            self._update(replace(order, status="unknown", reason=reason))
            for order in self.all()
            if order.status == "sent"
        ]

    def overdue(self, now_ns: int, after_s: float) -> list[Order]:
        """Orders that have had no answer for so long: their outcome is unknown from now on."""
        limit_ns = now_ns - int(after_s * 1e9)
        return [
            self._update(replace(order, status="unknown", reason=f"no answer for {after_s:g} s"))
            for order in self.all()
            if order.status == "sent" and order.sent_ns < limit_ns
        ]

    def _update(self, order: Order) -> Order:
        self._orders[order.client_id] = order
        return order


def _why(reply: Reply) -> str:
    if reply.status == 200:
        return ""
    kind = f"status {reply.status}" if reply.code is None else str(reply.code)
    return f"{kind}: {reply.message}" if reply.message else kind
