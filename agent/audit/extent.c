#include "agent/audit/extent.h"

#include <string.h>

#define ROOT "tile/entries"
#define MOST ((size_t)2 << 20) /* 16 MiB of numbers, 500 million entries */
#define GROW 4096
#define DEPTH 6 /* groups of three digits: more bundles than sizes below 2^53 have */

struct search {
    struct pfx_source *source;
    struct pfx_extent *extent; /* NULL: only the last one matters */
    bool found;
    uint64_t last, last_width;
};

static bool three_digits(const char *name, uint64_t *ret)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 3; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(name[i] - '0');
    }
    *ret = n;
    return true;
}

static void names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* The widest partial bundle of a folder "000.p". */
static uint64_t widest(struct pfx_source *source, const char *folder)
{
    char **names = NULL;
    size_t n = 0;
    uint64_t most = 0;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_source_list(source, folder, &names, &n, &err)))
        return 0;
    for (size_t i = 0; i < n; i++) {
        char *end;
        unsigned long width = strtoul(names[i], &end, 10);
        if (*end == '\0' && width > most && width < PFX_TILE_WIDTH)
            most = width;
    }
    names_free(names, n);
    return most;
}

static void count(struct search *search, uint64_t number, uint64_t width)
{
    struct pfx_extent *extent = search->extent;
    if (width == 0)
        return;
    if (extent && extent->n == MOST)
        extent->more = true;
    else if (extent) {
        if (extent->n % GROW == 0)
            extent->numbers =
                pfx_grow(extent->numbers, extent->n + GROW, sizeof(extent->numbers[0]));
        extent->numbers[extent->n++] = number;
    }
    if (!search->found || number > search->last ||
        (number == search->last && width > search->last_width)) {
        search->last = number;
        search->last_width = width;
    }
    search->found = true;
}

static void look(struct search *search, const char *folder, uint64_t above, unsigned depth)
{
    char **names = NULL;
    size_t n = 0;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_source_list(search->source, folder, &names, &n, &err)))
        return;
    for (size_t i = 0; i < n; i++) {
        uint64_t digits;
        bool inner = names[i][0] == 'x';
        if (strlen(names[i]) < 3U + inner || !three_digits(names[i] + inner, &digits))
            continue;
        const char *rest = names[i] + inner + 3;
        char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", folder, names[i]);
        if (inner && *rest == '\0' && depth < DEPTH)
            look(search, path, (above + digits) * 1000, depth + 1);
        else if (!inner && *rest == '\0')
            count(search, above + digits, PFX_TILE_WIDTH);
        else if (!inner && strcmp(rest, ".p") == 0)
            count(search, above + digits, widest(search->source, path));
    }
    names_free(names, n);
}

void pfx_extent_done(struct pfx_extent *extent)
{
    free(extent->numbers);
    *extent = (struct pfx_extent){.numbers = NULL};
}

static int ascending(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

bool pfx_extent_next(struct pfx_extent *extent, struct pfx_source *source, uint64_t number,
                     uint64_t *ret_number)
{
    if (!extent->read) {
        struct search search = {.source = source, .extent = extent};
        extent->read = true;
        look(&search, ROOT, 0, 1);
        if (extent->n > 1)
            qsort(extent->numbers, extent->n, sizeof(extent->numbers[0]), ascending);
    }
    *ret_number = number; /* with more than are kept each one is tried */
    size_t low = 0, high = extent->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (extent->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (!extent->more && low < extent->n)
        *ret_number = extent->numbers[low];
    return extent->more || low < extent->n;
}

uint64_t pfx_extent_size(struct pfx_source *source)
{
    struct search search = {.source = source};
    look(&search, ROOT, 0, 1);
    return search.found ? search.last * PFX_TILE_WIDTH + search.last_width : 0;
}
