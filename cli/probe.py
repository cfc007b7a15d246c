"""Asks the process of this container whether it is ready; the image's health check."""

import http.client
import sys

from shared.runtime import settings

PATIENCE_S = 3.0


def main() -> int:
    """0 when it is ready; else 1, and what it says is not."""
    port = settings.load(sender="probe").probe_port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer on port {port}: {error}")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
