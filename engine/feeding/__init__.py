"""The use cases of the feed: who leads, and how figures are carried from candle to candle without a hole."""
