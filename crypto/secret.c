/* Secrets: whole locked pages of their own, between two pages that can't be touched. */
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/crypto.h>

struct pfx_secret {
    uint8_t *map;    /* front guard, pages, back guard */
    size_t map_len;
    uint8_t *data;   /* ends where the back guard begins: an overrun by one byte faults */
    size_t len;
    size_t room;     /* len as it was made */
};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* --- the two kinds of memory ------------------------------------------------------------------ */

static atomic_int chosen = PFX_SECRET_AUTO; /* until it is known */

/* The C library of Debian 12 has no function for it, and not every architecture the call. */
static int secret_file(void)
{
#ifdef SYS_memfd_secret
    return (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

static bool kernel_has_it(void)
{
    int fd = secret_file();
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

pfx_result pfx_secret_memory(enum pfx_secret_memory memory, struct pfx_error *err)
{
    bool there = memory != PFX_SECRET_LOCKED && kernel_has_it();
    if (memory == PFX_SECRET_MEMFD && !there)
        return pfx_fail(err, PFX_CLASS_USAGE, "set up secret memory", "memfd_secret",
                        strerrorname_np(errno),
                        "This kernel gives none: boot it with secretmem.enable=1 (from 6.5 on it is "
                        "the default), let the call pass in the unit's filter, or set "
                        "sandbox.secret_memory to auto.");
    atomic_store(&chosen, there ? PFX_SECRET_MEMFD : PFX_SECRET_LOCKED);
    return PFX_OK;
}

bool pfx_secret_hidden(void)
{
    int now = atomic_load(&chosen);
    if (now == PFX_SECRET_AUTO) { /* two threads at once find the same */
        now = kernel_has_it() ? PFX_SECRET_MEMFD : PFX_SECRET_LOCKED;
        atomic_store(&chosen, now);
    }
    return now == PFX_SECRET_MEMFD;
}

/* Both: to read and write, and locked. errno says why not. */
static bool lock_pages(uint8_t *at, size_t len)
{
    return mprotect(at, len, PROT_READ | PROT_WRITE) == 0 && mlock(at, len) == 0;
}

static bool hide_pages(uint8_t *at, size_t len)
{
    int fd = secret_file();
    if (fd < 0)
        return false;
    /* It is shared by nobody: the descriptor goes now, children don't have the pages (below). */
    bool ok = ftruncate(fd, (off_t)len) == 0 &&
              mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return ok;
}

static pfx_result fail_lock(struct pfx_error *err, int errnum)
{
    struct rlimit limit = {0};
    unsigned long long kib = 0;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        kib = (unsigned long long)limit.rlim_cur / 1024;
    const char *name = strerrorname_np(errnum);
    return pfx_fail(err, PFX_CLASS_INTERNAL, "lock memory", "secret", name ? name : "",
                    "The pages of a secret can't be locked: RLIMIT_MEMLOCK is %llu KiB. Raise it "
                    "with LimitMEMLOCK= in the systemd unit, or ulimit -l in the shell that "
                    "starts the program.", kib);
}

/* The pages between the guards. */
static pfx_result open_pages(uint8_t *at, size_t len, struct pfx_error *err)
{
    if (!(pfx_secret_hidden() ? hide_pages(at, len) : lock_pages(at, len))) {
        if (errno == EMFILE || errno == ENFILE)
            return pfx_fail_errno(err, errno, "lock memory", "secret", "memfd_secret");
        return fail_lock(err, errno);
    }
    /* DONTFORK, not WIPEONFORK: a child that uses a secret by mistake must fault, not go on with
     * a key of zeros. */
    if (madvise(at, len, MADV_DONTDUMP) != 0 || madvise(at, len, MADV_DONTFORK) != 0)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "protect memory", "secret",
                        strerrorname_np(errno),
                        "The kernel can't keep a secret's pages out of core files and children.");
    return PFX_OK;
}

/* --- secrets ---------------------------------------------------------------------------------- */

pfx_result pfx_secret_new(size_t len, struct pfx_secret **ret_secret, struct pfx_error *err)
{
    size_t page = page_size();
    if (len > SIZE_MAX / 4)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "lock memory", "secret", "",
                        "A secret of %zu bytes can't be made.", len);
    size_t inner = len == 0 ? page : (len + page - 1) / page * page;
    size_t map_len = inner + 2 * page;
    uint8_t *map = mmap(NULL, map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return pfx_fail_errno(err, errno, "map memory", "secret", NULL);
    pfx_result r = open_pages(map + page, inner, err);
    if (pfx_failed(r)) {
        munmap(map, map_len);
        return r;
    }
    struct pfx_secret *secret = pfx_alloc(sizeof *secret);
    *secret = (struct pfx_secret){
        .map = map,
        .map_len = map_len,
        .data = map + page + inner - len,
        .len = len,
        .room = len,
    };
    *ret_secret = secret;
    return PFX_OK;
}

pfx_result pfx_secret_copy(const void *data, size_t len, struct pfx_secret **ret_secret,
                           struct pfx_error *err)
{
    struct pfx_secret *secret;
    PFX_TRY(pfx_secret_new(len, &secret, err));
    if (len > 0)
        memcpy(secret->data, data, len);
    *ret_secret = secret;
    return PFX_OK;
}

void pfx_secret_free(struct pfx_secret *secret)
{
    if (!secret)
        return;
    size_t page = page_size();
    OPENSSL_cleanse(secret->map + page, secret->map_len - 2 * page);
    munmap(secret->map, secret->map_len); /* unlocks too */
    free(secret);
}

uint8_t *pfx_secret_data(struct pfx_secret *secret)
{
    return secret->data;
}

const uint8_t *pfx_secret_bytes(const struct pfx_secret *secret)
{
    return secret->data;
}

size_t pfx_secret_len(const struct pfx_secret *secret)
{
    return secret->len;
}

void pfx_secret_truncate(struct pfx_secret *secret, size_t len)
{
    if (len >= secret->len)
        return;
    OPENSSL_cleanse(secret->data + len, secret->room - len);
    secret->len = len;
}

bool pfx_secret_equal(const struct pfx_secret *a, const struct pfx_secret *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->data, b->data, a->len) == 0;
}

/* Fills raw up to a line feed or the end of the file. Byte by byte, so that a second secret on the
 * same descriptor stays there. */
static pfx_result read_line(int fd, struct pfx_secret *raw, const char *what, size_t *ret_len,
                            struct pfx_error *err)
{
    size_t len = 0;
    while (len < raw->len) {
        ssize_t n = read(fd, raw->data + len, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfx_fail_errno(err, errno, "read secret", what, NULL);
        if (n == 0)
            break;
        if (raw->data[len] == '\n') {
            if (len > 0 && raw->data[len - 1] == '\r')
                len--;
            break;
        }
        len++;
    }
    *ret_len = len;
    return PFX_OK;
}

pfx_result pfx_secret_read_fd(int fd, size_t max, const char *what, struct pfx_secret **ret_secret,
                              struct pfx_error *err)
{
    /* Two bytes more: CR and LF, or the proof that it is too long. */
    PFX_AUTOSECRET struct pfx_secret *raw = NULL;
    PFX_TRY(pfx_secret_new(max + 2, &raw, err));
    size_t len = 0;
    PFX_TRY(read_line(fd, raw, what, &len, err));
    if (len == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "read secret", what, "",
                        "It is empty: write the secret on one line.");
    if (len > max)
        return pfx_fail(err, PFX_CLASS_USAGE, "read secret", what, "",
                        "It is longer than %zu bytes: is this the right file?", max);
    return pfx_secret_copy(raw->data, len, ret_secret, err);
}

/* Bignums and a few key buffers only: small enough for an old default limit of 64 KiB. */
#define SECURE_HEAP_BYTES (32 * 1024)
#define SECURE_HEAP_MIN 32

pfx_result pfx_secret_setup(struct pfx_error *err)
{
    if (CRYPTO_secure_malloc_initialized())
        return PFX_OK;
    switch (CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_MIN)) {
    case 1:
        return PFX_OK;
    case 2: /* made, but not locked */
        CRYPTO_secure_malloc_done();
        return fail_lock(err, errno);
    default:
        return pfx_fail(err, PFX_CLASS_INTERNAL, "lock memory", "OpenSSL secure heap", "",
                        "OpenSSL's secure heap of %d bytes can't be made.", SECURE_HEAP_BYTES);
    }
}
