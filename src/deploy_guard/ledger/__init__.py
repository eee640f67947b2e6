"""What outlives a run: its events and the record of a rollout that is not finished. Knows nothing of pytest."""
