/* Secrets: what the kernel says about their pages, and reading them. All of it on locked pages, and
 * on those of memfd_secret. */
#include "crypto_test.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "crypto/secret.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

static enum pfx_secret_memory memory;

/* May the kernel read this byte? A system call tells without a signal. */
static bool readable(const uint8_t *at)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    ssize_t n = write(fds[1], at, 1);
    bool faulted = n < 0 && errno == EFAULT;
    close(fds[0]);
    close(fds[1]);
    assert_true(faulted || n == 1);
    return !faulted;
}

static void guard_pages(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 32, 4095, 4096, 4097, 20000};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ERROR(err);
        size_t len = lengths[i];
        struct pfx_secret *secret = NULL;
        assert_ok(pfx_secret_new(len, &secret, &err), &err);
        uint8_t *data = pfx_secret_data(secret);
        assert_int_equal(pfx_secret_len(secret), len);
        for (size_t j = 0; j < len; j++)
            assert_int_equal(data[j], 0);
        if (len > 0)
            assert_true(readable(data) && readable(data + len - 1));
        assert_false(readable(data + len)); /* one byte past the end */
        uint8_t *first_page = (uint8_t *)((uintptr_t)(len ? data : data - 1) / page * page);
        assert_false(readable(first_page - 1));
        pfx_secret_free(secret);
        assert_false(readable(first_page));
    }
    pfx_secret_free(NULL);
}

/* VmFlags of the mapping that holds addr, out of /proc/self/smaps. */
static void vm_flags(const void *addr, char *ret_flags, size_t size)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    char line[512];
    bool inside = false;
    ret_flags[0] = '\0';
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)addr >= from && (unsigned long)addr < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(ret_flags, size, "%s", line + 8);
    }
    fclose(f);
}

static void pages_are_locked_and_not_dumped(void **state)
{
    (void)state;
    ERROR(err);
    PFX_AUTOSECRET struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy("hush", 4, &secret, &err), &err);
    char flags[512];
    vm_flags(pfx_secret_bytes(secret), flags, sizeof flags);
    assert_non_null(strstr(flags, " dd")); /* not dumped */
    assert_non_null(strstr(flags, " dc")); /* not copied on fork */
    if (memory == PFX_SECRET_MEMFD || !WITH_ASAN) /* which makes mlock do nothing */
        assert_non_null(strstr(flags, " lo"));
}

static void child_has_nothing(void **state)
{
    (void)state;
    ERROR(err);
    PFX_AUTOSECRET struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy("hush", 4, &secret, &err), &err);
    pid_t pid = fork();
    if (pid == 0) {
        int fds[2];
        bool gone = pipe(fds) == 0 && write(fds[1], pfx_secret_bytes(secret), 1) < 0 &&
                    errno == EFAULT;
        _exit(gone ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void lock_limit_is_named(void **state)
{
    (void)state;
    if (WITH_ASAN && memory == PFX_SECRET_LOCKED) {
        print_message("skipped: AddressSanitizer makes mlock do nothing\n");
        skip();
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        struct pfx_error err = PFX_ERROR_NONE, heap = PFX_ERROR_NONE;
        struct pfx_secret *secret = NULL;
        if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
            _exit(2);
        pfx_result r = pfx_secret_new(1, &secret, &err);
        if (r.cls != PFX_CLASS_INTERNAL || secret || !strstr(err.text, "RLIMIT_MEMLOCK") ||
            !strstr(err.text, "LimitMEMLOCK="))
            _exit(3);
        if (WITH_ASAN)
            _exit(0);
        r = pfx_secret_setup(&heap);
        _exit(r.cls == PFX_CLASS_INTERNAL && strstr(heap.text, "RLIMIT_MEMLOCK") ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* As a debugger, a core file's writer and root do it. */
static void who_may_read_it(void **state)
{
    (void)state;
    ERROR(err);
    PFX_AUTOSECRET struct pfx_secret *secret = NULL;
    assert_ok(pfx_secret_copy("hush", 4, &secret, &err), &err);
    uint8_t *at = pfx_secret_data(secret);
    char seen[4] = "";
    struct iovec here = {seen, sizeof seen}, there = {at, sizeof seen};
    bool read = process_vm_readv(getpid(), &here, 1, &there, 1, 0) == sizeof seen;
    assert_int_equal(read && memcmp(seen, "hush", 4) == 0, memory == PFX_SECRET_LOCKED);
    memset(seen, 0, sizeof seen);
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    read = pread(fd, seen, sizeof seen, (off_t)(uintptr_t)at) == sizeof seen;
    close(fd);
    assert_int_equal(read && memcmp(seen, "hush", 4) == 0, memory == PFX_SECRET_LOCKED);
}

static void no_descriptor_is_left(void **state)
{
    (void)state;
    enum { ROUNDS = 2000 };
    ERROR(err);
    int before = dup(0);
    close(before);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < ROUNDS; i++) {
        PFX_AUTOSECRET struct pfx_secret *secret = NULL;
        assert_ok(pfx_secret_copy("hush", 4, &secret, &err), &err);
        if (i == ROUNDS / 2) {
            int during = dup(0);
            assert_int_equal(during, before);
            close(during);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    print_message("made and wiped in %.1f microseconds\n",
                  ((double)(to.tv_sec - from.tv_sec) * 1e6 +
                   (double)(to.tv_nsec - from.tv_nsec) / 1e3) / ROUNDS);
    int after = dup(0);
    assert_int_equal(after, before);
    close(after);
}

/* A filter stands for a kernel that hasn't got it. */
static void kernel_without(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct pfx_error err = PFX_ERROR_NONE;
        struct pfx_secret *secret = NULL;
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(memfd_secret), 0) != 0 ||
            seccomp_load(ctx) != 0)
            _exit(2);
        seccomp_release(ctx);
        pfx_result r = pfx_secret_memory(PFX_SECRET_MEMFD, &err);
        if (r.cls != PFX_CLASS_USAGE || !strstr(err.text, "secretmem.enable=1") ||
            !strstr(err.text, "sandbox.secret_memory") || strcmp(err.code, "ENOSYS") != 0)
            _exit(3);
        struct pfx_error none = PFX_ERROR_NONE;
        r = pfx_secret_memory(PFX_SECRET_AUTO, &none);
        if (pfx_failed(r) || pfx_secret_hidden())
            _exit(4);
        r = pfx_secret_new(1, &secret, &none);
        pfx_secret_free(secret);
        _exit(pfx_ok(r) ? 0 : 5);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void truncate_and_compare(void **state)
{
    (void)state;
    ERROR(err);
    PFX_AUTOSECRET struct pfx_secret *a = NULL;
    PFX_AUTOSECRET struct pfx_secret *b = NULL;
    assert_ok(pfx_secret_copy("correct horse", 13, &a, &err), &err);
    assert_ok(pfx_secret_copy("correct", 7, &b, &err), &err);
    assert_false(pfx_secret_equal(a, b));
    pfx_secret_truncate(a, 7);
    assert_true(pfx_secret_equal(a, b));
    assert_memory_equal(pfx_secret_bytes(a) + 7, "\0\0\0\0\0\0", 6);
    pfx_secret_data(b)[0] ^= 1;
    assert_false(pfx_secret_equal(a, b));
}

static struct pfx_secret *read_from(const char *text, size_t len, size_t max, enum pfx_class want)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, len), len);
    close(fds[1]);
    struct pfx_secret *secret = NULL;
    ERROR(err);
    assert_class(pfx_secret_read_fd(fds[0], max, "the PIN of users", &secret, &err), want);
    close(fds[0]);
    if (want != PFX_CLASS_OK) {
        assert_null(secret);
        assert_string_equal(err.object, "the PIN of users");
    }
    return secret;
}

static void read_fd(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *want; /* NULL: USAGE */
    } cases[] = {{"1234", "1234"},   {"1234\n", "1234"},   {"1234\r\n", "1234"},
                 {"12 34 \n", "12 34 "},
                 {"1\n2", "1"},      {"12345678", "12345678"},  {"12345678\r\n", "12345678"},
                 {"123456789", NULL}, {"12345678\rx\n", NULL}, {"", NULL}, {"\n", NULL},
                 {"\r\n", NULL},
                 {"1234\r", "1234\r"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        PFX_AUTOSECRET struct pfx_secret *s =
            read_from(cases[i].text, strlen(cases[i].text), 8,
                      cases[i].want ? PFX_CLASS_OK : PFX_CLASS_USAGE);
        if (cases[i].want) {
            assert_int_equal(pfx_secret_len(s), strlen(cases[i].want));
            assert_memory_equal(pfx_secret_bytes(s), cases[i].want, strlen(cases[i].want));
        }
    }
}

static void two_secrets_on_one_descriptor(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "one\ntwo\n", 8), 8);
    close(fds[1]);
    for (int i = 0; i < 2; i++) {
        ERROR(err);
        PFX_AUTOSECRET struct pfx_secret *s = NULL;
        assert_ok(pfx_secret_read_fd(fds[0], 100, "x", &s, &err), &err);
        assert_memory_equal(pfx_secret_bytes(s), i == 0 ? "one" : "two", 3);
    }
    close(fds[0]);
    struct pfx_secret *s = NULL;
    ERROR(err);
    assert_true(pfx_failed(pfx_secret_read_fd(-1, 100, "x", &s, &err)));
    assert_string_equal(err.code, "EBADF");
}

static void setup(void **state)
{
    (void)state;
    ERROR(err);
    assert_ok(pfx_secret_setup(&err), &err);
    assert_int_equal(CRYPTO_secure_malloc_initialized(), 1);
    assert_ok(pfx_secret_setup(&err), &err); /* again is fine */
    void *p = OPENSSL_secure_malloc(32);
    assert_true(CRYPTO_secure_allocated(p));
    OPENSSL_secure_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard_pages),
        cmocka_unit_test(pages_are_locked_and_not_dumped),
        cmocka_unit_test(child_has_nothing),
        cmocka_unit_test(lock_limit_is_named),
        cmocka_unit_test(who_may_read_it),
        cmocka_unit_test(no_descriptor_is_left),
        cmocka_unit_test(truncate_and_compare),
        cmocka_unit_test(read_fd),
        cmocka_unit_test(two_secrets_on_one_descriptor),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(setup),
        cmocka_unit_test(kernel_without),
    };
    static const char *const names[] = {"of the kernel", "locked pages", "memfd_secret"};
    bool hidden = pfx_secret_hidden();
    int failed = 0;
    for (memory = PFX_SECRET_LOCKED; memory <= PFX_SECRET_MEMFD; memory++) {
        ERROR(err);
        pfx_result r = pfx_secret_memory(memory, &err);
        if (pfx_failed(r) && memory == PFX_SECRET_MEMFD && !hidden) {
            print_message("skipped: this kernel has no memfd_secret\n");
            continue;
        }
        failed += pfx_failed(r) || pfx_secret_hidden() != (memory == PFX_SECRET_MEMFD);
        failed += cmocka_run_group_tests_name(names[memory], tests, NULL, NULL);
    }
    return failed + cmocka_run_group_tests_name(names[PFX_SECRET_AUTO], once, NULL, NULL);
}
