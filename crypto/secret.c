/* Secrets: whole locked pages of their own, between two pages that can't be touched. */
#include "crypto/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
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
    /* DONTFORK, not WIPEONFORK: a child that uses a secret by mistake must fault, not go on with
     * a key of zeros. */
    if (mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0 ||
        madvise(map + page, inner, MADV_DONTDUMP) != 0 ||
        madvise(map + page, inner, MADV_DONTFORK) != 0) {
        int errnum = errno;
        munmap(map, map_len);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "protect memory", "secret",
                        strerrorname_np(errnum),
                        "The kernel can't keep a secret's pages out of core files and children.");
    }
    if (mlock(map + page, inner) != 0) {
        int errnum = errno;
        munmap(map, map_len);
        return fail_lock(err, errnum);
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
