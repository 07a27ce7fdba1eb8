/*
 * Gives the files of a folder to a fuzz target, one after the other: how each build without a
 * fuzzer checks that what was found once stays mended. A crash names its file.
 *
 *   fuzz_NAME FOLDER
 */
#include <dirent.h>
#include <stdio.h>

#include "crypto/mem.h"

#define LARGEST (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *path)
{
    /* Of its own size, so that a sanitizer sees a look behind it. */
    static uint8_t room[LARGEST];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s can't be read\n", path);
        return 1;
    }
    size_t size = fread(room, 1, sizeof room, file);
    fclose(file);
    PFX_AUTOFREE uint8_t *data = pfx_memdup(room, size);
    printf("%s\n", path);
    fflush(stdout);
    return LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    unsigned n = 0, failed = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        PFX_AUTOFREE char *path = pfx_asprintf("%s/%s", argv[1], entry->d_name);
        failed += run(path) != 0;
        n++;
    }
    closedir(folder);
    printf("%u inputs, %u failed\n", n, failed);
    return n > 0 && failed == 0 ? 0 : 1;
}
