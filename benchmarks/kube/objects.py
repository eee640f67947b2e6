"""The manifests that are released."""

from __future__ import annotations

from kube.cluster import Body

IMAGE = "test.local/pause:1"
"""An image with ``/bin/busybox`` that is in the cluster; ``--image`` names another one (``busybox:1.37``)."""


def config_map(name: str, **data: str) -> Body:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def config_maps(number: int, value: str) -> list[Body]:
    """Return that many, each of the size of a small properties file."""
    lines = "\n".join(f"setting.{n} = {value}" for n in range(20))
    return [config_map(f"settings-{n:04}", version=value, properties=lines) for n in range(number)]


def pod(script: str, *, image: str = "", ready: str = "true", env: list[Body] | None = None, **more: object) -> Body:
    """Return the specification of a pod whose container runs a line of shell."""
    container: Body = {
        "name": "main",
        "image": image or IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/busybox", "sh", "-c", script],
        "env": env or [],
        "readinessProbe": {"exec": {"command": ["/bin/busybox", "sh", "-c", ready]}, "periodSeconds": 1},
    }
    if "mounts" in more:
        container["volumeMounts"] = more.pop("mounts")
    return {"terminationGracePeriodSeconds": 1, "containers": [container], **more}


def deployment(name: str, spec: Body, *, replicas: int = 2, deadline: int = 600) -> Body:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": deadline,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


SLEEP = "exec /bin/busybox sleep 100000"


def shop(version: str, spec: Body, *, deadline: int = 600) -> list[Body]:
    """Return an application of five objects; ``v2`` changes all of them and adds one."""
    number = int(version[1:])
    bodies = [
        config_map("shop", greeting=f"hello from {version}"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop"}, "stringData": {"token": f"t-{version}"}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "shop", "annotations": {"example.org/version": version}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8080 + number}]},
        },
        deployment("shop", spec, deadline=deadline),
    ]
    if version != "v1":
        bodies.append(config_map("shop-extra", version=version))
    return bodies


def healthy(version: str) -> list[Body]:
    env = [{"name": "VERSION", "value": version}]
    return shop(version, pod(SLEEP, env=env))
