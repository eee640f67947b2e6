"""The domain: severities, verdict and the way of a run. Knows nothing of pytest and does no I/O of its own."""
