"""Exit with status 0 if the server of this container would answer requests, and with 1 if not, saying why."""

import os
import sys
import urllib.error
import urllib.request

# Past any proxy that the environment may name: the server is in this container.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Ask /readyz."""
    url = f"http://127.0.0.1:{os.environ.get('PCDM_PORT', '8000')}/readyz"
    try:
        with _OPENER.open(url, timeout=4) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
