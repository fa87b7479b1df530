"""The engine's HTTP routes: thin doors that decode, call one use case and encode."""
