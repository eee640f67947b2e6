"""The standard gates: run from here in this repository, and as ``deploy_guard.gates`` everywhere else."""
