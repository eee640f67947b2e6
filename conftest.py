"""The repository's own tests live in tests/; its gates in gates/ run with --deploy-env only."""
