"""What Binance means by refusing an order (errors.md). `reason` has its message, whatever stands
before that."""

from __future__ import annotations

# -1014 UNKNOWN_ORDER_COMPOSITION, -1020 UNSUPPORTED_OPERATION, -1116 INVALID_ORDER_TYPE,
# -1158 OCO_ORDER_TYPE_REJECTED
_NO_SUCH_KIND_CODES = frozenset({-1014, -1020, -1116, -1158})
# Headings "Messages for ... -2010 NEW_ORDER_REJECTED ..." and "Filter failures".
_NO_SUCH_KIND = ("orders are not supported", "Unsupported order combination")
_NO_ROOM = (
    "PERCENT_PRICE",
    "PERCENT_PRICE_BY_SIDE",
    "MAX_POSITION",
    "MAX_NUM_ORDERS",
    "MAX_NUM_ALGO_ORDERS",
    "MAX_NUM_ORDER_LISTS",
    "EXCHANGE_MAX_NUM_ORDERS",
    "EXCHANGE_MAX_NUM_ALGO_ORDERS",
    "EXCHANGE_MAX_NUM_ORDER_LISTS",
)
# Of exchangeInfo: the order's numbers do not suit what it says now.
_NUMBERS = ("PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "MIN_NOTIONAL", "NOTIONAL")
_BAD_PRECISION, _NEW_ORDER_REJECTED = -1111, -2010
_FILTER_FAILURE = "Filter failure: "


def is_for_long(code: int | None, reason: str) -> bool:
    """The same order would be refused in a minute, too: the symbol does not take such orders, the
    account has too many of them, or the price is too far away."""
    no_such_kind = code in _NO_SUCH_KIND_CODES or any(words in reason for words in _NO_SUCH_KIND)
    return no_such_kind or _failed_filter(reason) in _NO_ROOM


def doubts_rules(code: int | None, reason: str) -> bool:
    """The order's price or quantity is wrong by the venue's rules: too low, too high, or between
    two steps."""
    return code == _BAD_PRECISION or _failed_filter(reason) in _NUMBERS


def lacks_balance(code: int | None, reason: str) -> bool:
    return code == _NEW_ORDER_REJECTED and "insufficient balance" in reason


def _failed_filter(reason: str) -> str:
    """Its name, "" when it was something else."""
    return reason.partition(_FILTER_FAILURE)[2]
