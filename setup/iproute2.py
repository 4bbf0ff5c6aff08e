"""Find `ip` for the tests of silence, and install it if it is missing. Without it, they use a proxy instead of a link.

python -m setup.iproute2        prints its path
"""

import shutil

from setup.apt import apt_install


def main() -> None:
    """Find it, else install it and find it again. It is only needed where root may create network namespaces."""
    if shutil.which("ip") is None:
        apt_install("iproute2", "for the tests")
    print(shutil.which("ip") or "none")


if __name__ == "__main__":
    main()
