"""The soak: real feeds and a reader over a market that runs fast, for as long as one wants (`python -m tests.soak`)."""
