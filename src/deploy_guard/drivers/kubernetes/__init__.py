"""The Kubernetes driver: server-side apply through the user's own kubectl, and all of it back again."""
