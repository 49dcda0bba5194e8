"""Memory in pages of 2 MB: on a CPU, XLA asks the system for its memory anew in every step."""

import os
import platform
import sys

SETTING = "glibc.malloc.hugetlb"


def use() -> None:
    """Starts this program again, in the same process, with huge pages for all that it allocates.

    A sixth of the processor time of a training step of configs/own_small.py went to handing out
    pages of 4 kB (docs/performance.md). The values are the same bits. glibc reads the setting only
    as a program starts. Nothing happens without glibc, or where GLIBC_TUNABLES names the setting
    already: glibc.malloc.hugetlb=0 keeps pages small.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if SETTING in tunables or platform.libc_ver()[0] != "glibc" or not sys.executable:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{SETTING}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
