"""The file by which a client finds an API server and who it is there."""

from __future__ import annotations

import base64
import json


def kubeconfig(server: str, ca: str, *, token: str = "", certificate: str = "", key: str = "") -> str:
    """Everything inline, as JSON, which is YAML too. By token, or by client certificate and key (PEM texts)."""
    user = {"token": token} if token else {"client-certificate-data": _data(certificate), "client-key-data": _data(key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": _data(ca)}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return json.dumps(content, indent=1) + "\n"


def _data(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
