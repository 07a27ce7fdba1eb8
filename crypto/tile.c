/* Paths and widths of tiles (C2SP tlog-tiles). */
#include "crypto/tree.h"

#include <stdio.h>
#include <string.h>

#define LEVEL_MAX (PFX_TREE_LEVELS / PFX_TILE_HEIGHT)

/* How many tiles of the level can stand before another one. */
static uint64_t number_max(int level)
{
    unsigned height = level == PFX_TILE_ENTRIES ? 0 : (unsigned)level;
    return PFX_TREE_SIZE_MAX >> PFX_TILE_HEIGHT * (height + 1);
}

char *pfx_tile_path(int level, uint64_t number, unsigned width, char buf[PFX_TILE_PATH_SIZE])
{
    unsigned groups[7]; /* 2^64 has 20 digits */
    size_t n = 0;
    do {
        groups[n++] = (unsigned)(number % 1000);
        number /= 1000;
    } while (number > 0);
    size_t at;
    if (level == PFX_TILE_ENTRIES)
        at = (size_t)snprintf(buf, PFX_TILE_PATH_SIZE, "tile/entries");
    else
        at = (size_t)snprintf(buf, PFX_TILE_PATH_SIZE, "tile/%d", level);
    while (n-- > 0)
        at += (size_t)snprintf(buf + at, PFX_TILE_PATH_SIZE - at, "/%s%03u", n > 0 ? "x" : "",
                               groups[n]);
    if (width < PFX_TILE_WIDTH)
        snprintf(buf + at, PFX_TILE_PATH_SIZE - at, ".p/%u", width);
    return buf;
}

/* Moves *at past the text if it begins with it. */
static bool skip(const char **at, const char *text)
{
    size_t len = strlen(text);
    if (strncmp(*at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

/* One to three digits. */
static bool read_digits(const char **at, unsigned *ret)
{
    unsigned value = 0, n = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (++n > 3)
            return false;
        value = value * 10 + (unsigned)(**at - '0');
    }
    *ret = value;
    return n > 0;
}

bool pfx_tile_parse(const char *path, int *ret_level, uint64_t *ret_number, unsigned *ret_width)
{
    const char *at = path;
    int level = PFX_TILE_ENTRIES;
    if (!skip(&at, "tile/"))
        return false;
    if (!skip(&at, "entries")) {
        unsigned value;
        if (!read_digits(&at, &value) || value > LEVEL_MAX)
            return false;
        level = (int)value;
    }
    uint64_t number = 0;
    for (bool more = true; more;) {
        unsigned group;
        if (!skip(&at, "/"))
            return false;
        more = skip(&at, "x");
        if (!read_digits(&at, &group))
            return false;
        number = number * 1000 + group;
        if (number > number_max(level))
            return false;
    }
    unsigned width = PFX_TILE_WIDTH;
    if (skip(&at, ".p/") && (!read_digits(&at, &width) || width == 0 || width >= PFX_TILE_WIDTH))
        return false;
    /* Leading zeros, groups of another length and whatever stands after it: one number has one
     * spelling. */
    char again[PFX_TILE_PATH_SIZE];
    if (strcmp(path, pfx_tile_path(level, number, width, again)) != 0)
        return false;
    *ret_level = level;
    *ret_number = number;
    *ret_width = width;
    return true;
}

unsigned pfx_tile_partial(int level, uint64_t size, uint64_t *ret_full)
{
    unsigned height = level == PFX_TILE_ENTRIES ? 0 : (unsigned)level;
    unsigned shift = PFX_TILE_HEIGHT * height;
    uint64_t hashes = shift < 64 ? size >> shift : 0;
    *ret_full = hashes / PFX_TILE_WIDTH;
    return (unsigned)(hashes % PFX_TILE_WIDTH);
}
