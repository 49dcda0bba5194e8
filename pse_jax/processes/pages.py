"""Memory in pages of 2 MB: XLA's scratch memory comes from the system anew in every step."""

import os
import platform
import sys

SETTING = "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Starts this program again, in the same process, with huge pages for all that it allocates.

    On two CPU cores a training step of configs/own_small.py then takes 0.85 of the time
    (docs/performance.md): a sixth of it went to handing out pages of 4 kB. The values are the same
    bits. glibc reads the setting at its start only. Nothing happens without glibc, or where
    GLIBC_TUNABLES names the setting already: GLIBC_TUNABLES=glibc.malloc.hugetlb=0 keeps pages
    small.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if SETTING in tunables or platform.libc_ver()[0] != "glibc" or not sys.executable:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{SETTING}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
