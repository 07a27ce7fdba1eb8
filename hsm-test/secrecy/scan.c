/*
 * Looks for many needles at once in the memory of a process, in a core file, or in any file:
 * memory.py speaks to it over standard input and output, a line each.
 *
 *   needle NAME HEX   from now on; at least CHUNK bytes
 *   process PID       every mapping that may be read, by /proc/PID/mem
 *   written PID       the same without pages that are still as they stand in a file, or empty
 *   keep PID          as "written", and what is read is kept
 *   kept              what was kept, with the needles that are known now; then it is forgotten.
 *                     WHERE begins with the PID
 *   file PATH
 * Answers of all but the first, before "done BYTES MAPPINGS":
 *   hit NAME RUN secret|plain HEXADDRESS WHERE      RUN bytes of it in a row
 *   unreadable FROM-TO WHERE                        the kernel doesn't give them out
 *
 * RUN bytes of a needle, WINDOW or more, are a find, wherever in the needle they begin: a copy that
 * was partly written over is a copy. Any WINDOW of them has a whole chunk of the needle in it, so
 * chunks are looked up at each byte: in a table of bits that is quick, then in one of places.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 8
#define WINDOW 16
#define FILTER_BITS 24
#define PAGE 4096
#define MOST_MAPPINGS 4096

struct needle {
    char *name;
    unsigned char *bytes;
    size_t len;
};
struct place { /* a chunk of a needle; others of the same slot behind it */
    uint32_t needle, offset, next;
};
struct mapping {
    uint64_t from, to;
    char where[256];
    bool shared, of_file;
    bool secret; /* crypto/secret.h: locked, in no core file, in no child */
};

struct copy {
    struct mapping mapping;
    uint64_t from;
    size_t size;
    unsigned char *data;
};

static struct needle *needles;
static struct place *places; /* [0] isn't one */
static uint32_t n_needles, n_places = 1, slots[1u << 20];
static uint64_t filter[1u << (FILTER_BITS - 6)];
static struct mapping mappings[MOST_MAPPINGS];
static struct copy *copies;
static size_t n_mappings, n_copies;
static const char *unsorted; /* the process of which it isn't known yet which mappings are secret */

static void *more(void *block, size_t n, size_t size)
{
    void *grown = realloc(block, n * size);
    if (!grown)
        abort();
    return grown;
}

static uint64_t mixed(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, CHUNK);
    return word * UINT64_C(0x9e3779b97f4a7c15);
}

static void add(const char *name, const char *hex)
{
    size_t len = strlen(hex) / 2;
    if (len < CHUNK)
        abort();
    needles = more(needles, n_needles + 1u, sizeof *needles);
    struct needle *needle = &needles[n_needles];
    *needle = (struct needle){strdup(name), more(NULL, len, 1), len};
    for (size_t i = 0; i < len; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            abort();
        needle->bytes[i] = (unsigned char)byte;
    }
    for (size_t i = 0; i + CHUNK <= len; i += CHUNK) {
        uint64_t hash = mixed(needle->bytes + i);
        uint32_t bit = (uint32_t)(hash >> (64 - FILTER_BITS)), slot = bit >> (FILTER_BITS - 20);
        if ((n_places & (n_places - 1)) == 0)
            places = more(places, 2u * n_places, sizeof *places);
        places[n_places] = (struct place){n_needles, (uint32_t)i, slots[slot]};
        slots[slot] = n_places++;
        filter[bit >> 6] |= UINT64_C(1) << (bit & 63);
    }
    n_needles++;
}

/* --- what was found --------------------------------------------------------------------------- */

static bool word(const char *flags, const char *want)
{
    const char *at = strstr(flags, want);
    return at && at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n');
}

/* Slow, hence only when something was found. */
static void sort_mappings(void)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%s/smaps", unsorted);
    FILE *stream = fopen(path, "re");
    uint64_t start = 0, from, to;
    size_t i = 0;
    while (stream && fgets(line, sizeof line, stream)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            for (start = from; i < n_mappings && mappings[i].from < start;)
                i++;
        else if (strncmp(line, "VmFlags:", 8) == 0 && i < n_mappings && mappings[i].from == start)
            mappings[i].secret = word(line, "lo") && word(line, "dd") && word(line, "dc");
    }
    if (stream)
        fclose(stream);
    unsorted = NULL;
}

static void candidate(const unsigned char *data, size_t size, size_t at, uint64_t address,
                      const struct mapping *mapping, uint64_t hash)
{
    uint32_t place = slots[hash >> 44];
    for (; place; place = places[place].next) {
        const struct needle *needle = &needles[places[place].needle];
        size_t offset = places[place].offset, before = 0, after = 0;
        if (memcmp(data + at, needle->bytes + offset, CHUNK) != 0)
            continue;
        while (before < offset && before < at &&
               data[at - before - 1] == needle->bytes[offset - before - 1])
            before++;
        while (offset + after < needle->len && at + after < size &&
               data[at + after] == needle->bytes[offset + after])
            after++;
        size_t least = needle->len < WINDOW ? needle->len : WINDOW;
        if (before >= CHUNK || before + after < least)
            continue; /* told by an earlier chunk of the same run, or too short */
        if (unsorted)
            sort_mappings();
        printf("hit %s %zu %s %" PRIx64 " %s\n", needle->name, before + after,
               mapping->secret ? "secret" : "plain", address + at - before, mapping->where);
    }
}

static bool blank(const unsigned char *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void look(const unsigned char *data, size_t size, uint64_t address,
                 const struct mapping *mapping)
{
    for (size_t at = 0; at + CHUNK <= size; at++) {
        while (at % PAGE == 0 && at + PAGE <= size && blank(data + at))
            at += PAGE;
        if (at + CHUNK > size)
            return;
        uint64_t hash = mixed(data + at);
        uint64_t bit = hash >> (64 - FILTER_BITS);
        if (filter[bit >> 6] >> (bit & 63) & 1)
            candidate(data, size, at, address, mapping, hash);
    }
}

static void keep(const char *pid, const struct mapping *mapping, uint64_t from,
                 const unsigned char *data, size_t size)
{
    copies = more(copies, n_copies + 1, sizeof *copies);
    struct copy *copy = &copies[n_copies++];
    *copy = (struct copy){*mapping, from, size, memcpy(more(NULL, size, 1), data, size)};
    snprintf(copy->mapping.where, sizeof copy->mapping.where, "%s %.200s", pid, mapping->where);
}

static void look_at_copies(void)
{
    size_t total = 0;
    for (size_t i = 0; i < n_copies; i++) {
        look(copies[i].data, copies[i].size, copies[i].from, &copies[i].mapping);
        total += copies[i].size;
        free(copies[i].data);
    }
    printf("done %zu %zu\n", total, n_copies);
    n_copies = 0;
}

static unsigned char *buffer;
static size_t room;

static void make_room(size_t size)
{
    if (size > room)
        buffer = more(buffer, room = size, 1);
}

/* --- processes -------------------------------------------------------------------------------- */

static bool read_mappings(const char *pid)
{
    char path[64], line[1024], mode[8] = "";
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *stream = fopen(path, "re");
    n_mappings = 0;
    while (stream && n_mappings < MOST_MAPPINGS && fgets(line, sizeof line, stream)) {
        struct mapping *next = &mappings[n_mappings];
        int where = 0;
        unsigned long inode = 0;
        *next = (struct mapping){0};
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %lu %n", &next->from, &next->to, mode,
                   &inode, &where) < 4 ||
            where == 0 || mode[0] != 'r')
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(next->where, sizeof next->where, "%s", line[where] ? line + where : "anonymous");
        next->shared = mode[3] == 's';
        next->of_file = inode != 0;
        n_mappings++;
    }
    if (stream)
        fclose(stream);
    unsorted = pid;
    return n_mappings > 0 && n_mappings < MOST_MAPPINGS;
}

/* Linux, Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define OF_FILE (UINT64_C(1) << 61)

/* Of each page: is it to be read? Pages of no file that don't exist hold nothing, and reading would
 * make them. */
static bool *wanted_pages(int pagemap, const struct mapping *mapping, bool whole)
{
    static uint64_t *entries;
    static bool *wanted;
    static size_t most;
    size_t n = (size_t)(mapping->to - mapping->from) / PAGE;
    if (n > most) {
        most = n;
        entries = more(entries, n, sizeof *entries);
        wanted = more(wanted, n, sizeof *wanted);
    }
    ssize_t got = pread(pagemap, entries, n * sizeof *entries,
                        (off_t)(mapping->from / PAGE * sizeof *entries));
    bool known = got == (ssize_t)(n * sizeof *entries) && !mapping->shared;
    for (size_t i = 0; i < n; i++) {
        bool there = entries[i] & (PRESENT | SWAPPED), clean = entries[i] & OF_FILE;
        wanted[i] = !known || (whole && mapping->of_file) || (there && !clean);
    }
    return wanted;
}

/* Reads a mapping and looks at it, runs of pages at once; what the kernel refuses is told. */
static uint64_t read_mapping(int fd, const struct mapping *mapping, const bool *wanted,
                             const char *keeper)
{
    size_t size = (size_t)(mapping->to - mapping->from), bad = 0;
    uint64_t total = 0;
    make_room(size);
    for (size_t from = 0, to; from < size; from = to) {
        bool want = wanted[from / PAGE];
        for (to = from + PAGE; to < size && wanted[to / PAGE] == want; to += PAGE)
            ;
        for (size_t at = from; want && at < to;) {
            ssize_t n = pread(fd, buffer + at, to - at, (off_t)(mapping->from + at));
            size_t step = n > 0 ? (size_t)n : PAGE;
            if (n <= 0)
                memset(buffer + at, 0, PAGE);
            bad += n <= 0;
            total += n > 0 ? (uint64_t)n : 0;
            at += step;
        }
        if (want)
            look(buffer + from, to - from, mapping->from + from, mapping);
        if (want && keeper)
            keep(keeper, mapping, mapping->from + from, buffer + from, to - from);
    }
    if (bad > 0)
        printf("unreadable %" PRIx64 "-%" PRIx64 " %s\n", mapping->from, mapping->to,
               mapping->where);
    return total;
}

static void process(const char *pid, bool whole, bool kept)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/mem", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%s/pagemap", pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pagemap < 0 || !read_mappings(pid)) {
        printf("error the memory of %s can't be read: %s\n", pid, strerror(errno));
    } else {
        uint64_t total = 0;
        if (kept) /* what is found later is sorted now */
            sort_mappings();
        for (size_t i = 0; i < n_mappings; i++)
            total += read_mapping(fd, &mappings[i], wanted_pages(pagemap, &mappings[i], whole),
                                  kept ? pid : NULL);
        printf("done %" PRIu64 " %zu\n", total, n_mappings);
    }
    unsorted = NULL;
    if (fd >= 0)
        close(fd);
    if (pagemap >= 0)
        close(pagemap);
}

static void file(const char *path)
{
    struct stat st;
    struct mapping whole = {.where = "file"};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        printf("error %s can't be read: %s\n", path, strerror(errno));
    } else {
        size_t size = (size_t)st.st_size, at = 0;
        make_room(size + 1);
        ssize_t n;
        while (at < size && (n = read(fd, buffer + at, size - at)) > 0)
            at += (size_t)n;
        look(buffer, at, 0, &whole);
        printf("done %zu 1\n", at);
    }
    if (fd >= 0)
        close(fd);
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    places = more(NULL, 1, sizeof *places);
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *verb = line, *what = strchr(line, ' '), *hex = NULL;
        if (what)
            *what++ = '\0';
        if (strcmp(verb, "kept") == 0) {
            look_at_copies();
        } else if (!what) {
            return 2;
        } else if (strcmp(verb, "needle") == 0 && (hex = strchr(what, ' ')) != NULL) {
            *hex++ = '\0';
            add(what, hex);
        } else if (strcmp(verb, "process") == 0 || strcmp(verb, "written") == 0 ||
                   strcmp(verb, "keep") == 0) {
            process(what, verb[0] == 'p', verb[0] == 'k');
        } else if (strcmp(verb, "file") == 0) {
            file(what);
        } else {
            return 2;
        }
        fflush(stdout);
    }
    free(line);
    return 0;
}
