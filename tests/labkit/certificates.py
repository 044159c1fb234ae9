"""Certificates and keys for a control plane that lives as long as one lab run, made by the openssl program."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.labkit.ports import LabError

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


class Authority:
    """One certificate authority, what it signs, and the key pair that signs ServiceAccount tokens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.crt"
        self._ca_key = directory / "ca.key"
        _openssl("req", "-x509", *CURVE, "-days", "3", "-subj", "/CN=lab-ca", "-keyout", self._ca_key, "-out", self.ca,
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", directory / "sa.key")
        _openssl("ec", "-in", directory / "sa.key", "-pubout", "-out", directory / "sa.pub")

    def issue(self, name: str, subject: str, *, addresses: Sequence[str] = (), names: Sequence[str] = ()) -> None:
        """NAME.crt and NAME.key; for a server when it has addresses or names, else for a client."""
        usage = "serverAuth" if addresses or names else "clientAuth"
        extensions = [
            "basicConstraints=critical,CA:false",
            "keyUsage=critical,digitalSignature",
            f"extendedKeyUsage={usage}",
        ]
        if addresses or names:
            also = [*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in names)]
            extensions.append("subjectAltName=" + ",".join(also))
        arguments = [argument for extension in extensions for argument in ("-addext", extension)]
        _openssl("req", "-x509", *CURVE, "-days", "3", "-subj", subject, "-CA", self.ca, "-CAkey", self._ca_key,
                 "-keyout", self.key(name), "-out", self.certificate(name), *arguments)  # fmt: skip

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise LabError(f"openssl {arguments[0]}: {done.stderr.strip()}")
