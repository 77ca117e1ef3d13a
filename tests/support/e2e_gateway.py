"""A gateway that wants API keys, as a process in a pod: prints a line for each key that it sees anew.

Arguments: the server's address, the port, the certificate and its key, and the keys that are accepted.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from dataclasses import dataclass

from tls_proxy import TlsProxy

LOOK_INTERVAL_SECONDS = 0.2


@dataclass(frozen=True)
class PemCertificate:
    """A certificate in files."""

    certificate: str
    key: str

    def configure_cert(self, context: ssl.SSLContext, /) -> None:
        """Let a context use it."""
        context.load_cert_chain(self.certificate, self.key)


async def main() -> None:
    """Serve until the process is ended."""
    server, port, certificate, key, *accepted = sys.argv[1:]
    proxy = TlsProxy(server, PemCertificate(certificate, key), host="0.0.0.0")
    proxy.port = int(port)
    proxy.api_keys = set(accepted)
    await proxy.accept(None)
    print("listening", flush=True)
    seen = 0
    while True:
        for call in proxy.calls[seen:]:
            verdict = "accepted" if call.accepted else "refused"
            print(f"{verdict} {call.api_key} {call.method}", flush=True)
        seen = len(proxy.calls)
        await asyncio.sleep(LOOK_INTERVAL_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
