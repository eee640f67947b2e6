"""The nouns behind the fixtures: machine, environment, repository, service. They know nothing of pytest."""
