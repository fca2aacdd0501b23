"""Names that tables, advice and figures share."""

#: Tracks of settings: figures of one track may be compared without reserve.
BASE, OPTIMISED, SERVED = "as loaded", "optimised", "served"

#: Parts of a query's energy, in the order in which they are drawn.
SHARES = ("static", "memory", "arithmetic", "rest")

#: Metrics of quality of which less is better.
LESS_IS_BETTER = ("bits_per_byte",)
