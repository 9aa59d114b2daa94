/* What keeps secrets inside this process. */
#include "harpoon.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int hp_protect_process(void)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return -errno;
    return 0;
}
