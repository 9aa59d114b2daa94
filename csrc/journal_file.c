/* Names and headers of the journal's segment files. */
#include "journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t hp_segment_header_crc(const hp_segment_header *header)
{
    return hp_crc32c_portable(0, header, offsetof(hp_segment_header, crc));
}

void hp_segment_name(char name[HP_SEGMENT_NAME_BYTES], uint32_t number)
{
    snprintf(name, HP_SEGMENT_NAME_BYTES, "%08u.hpj", number);
}

/* The number in a segment's name; 0 for the name of anything else. */
static uint32_t number_of(const char *name)
{
    uint32_t number = 0;
    for (int i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        number = 10 * number + (uint32_t)(name[i] - '0');
    }
    return strcmp(name + 8, ".hpj") == 0 ? number : 0;
}

static DIR *list(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    return dir;
}

uint32_t hp_segment_above(int folder, uint32_t number)
{
    uint32_t best = 0;
    DIR *dir = list(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint32_t n = number_of(entry->d_name);
        if (n > number && (best == 0 || n < best))
            best = n;
    }
    if (dir)
        closedir(dir);
    return best;
}

uint32_t hp_segment_below(int folder, uint32_t number)
{
    uint32_t best = 0;
    DIR *dir = list(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint32_t n = number_of(entry->d_name);
        if (n < number && n > best)
            best = n;
    }
    if (dir)
        closedir(dir);
    return best;
}
