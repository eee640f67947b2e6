"""The pytest side: it feeds the flow with recorded results and runs its steps as items. For release runs only."""
