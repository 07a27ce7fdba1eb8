/* The points of the socket protocol, which all three programs have, and the end at one of them. */
#include "kill_points.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ANEW 1
#define USED 4
#define ARMED 8
#define REACHED 512
#define KNOWN 512 /* jobs and requests whose names are kept */
#define PENDING 64

static char *file;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
void (*kill_came)(const struct pfx_msg *msg, const char *label);

__attribute__((constructor)) static void map_file(void)
{
    const char *path = getenv("PFX_KILL_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, KILL_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    file = at == MAP_FAILED ? NULL : at;
}

void *kill_memory(size_t size)
{
    return file && !file[ANEW] && size <= KILL_FILE_SIZE - KILL_MEMORY ? file + KILL_MEMORY : NULL;
}

static void reached(const char *name)
{
    uint32_t used;
    size_t len = strlen(name) + 1;
    memcpy(&used, file + USED, sizeof used);
    const char *end = file + REACHED + used;
    for (const char *at = file + REACHED; at < end; at += strlen(at) + 1)
        if (strcmp(at, name) == 0)
            return;
    if (REACHED + used + len > KILL_MEMORY)
        return;
    memcpy(file + REACHED + used, name, len);
    used += (uint32_t)len;
    memcpy(file + USED, &used, sizeof used);
}

void kill_point(const char *fmt, ...)
{
    char name[KILL_NAME_SIZE];
    va_list args;
    if (!file)
        return;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    reached(name);
    if (strncmp(file + ARMED, name, sizeof name) == 0) {
        file[0] = 1;
        kill(getpid(), SIGKILL);
        for (;;) /* the others of this process end as well */
            continue;
    }
    pthread_mutex_unlock(&lock);
}

/* --- the protocol; each process has one thread for it --- */

static struct known {
    const void *conn; /* NULL: a job, whose number is the process's */
    int64_t id;
    char name[40];
} known[KNOWN];
static unsigned next_known;

static void remember(const void *conn, int64_t id, const char *name)
{
    struct known *k = NULL;
    for (unsigned i = 0; i < KNOWN && !k; i++)
        if (known[i].conn == conn && known[i].id == id)
            k = &known[i]; /* a job that comes again may be of another kind */
    k = k ? k : &known[next_known++ % KNOWN];
    k->conn = conn;
    k->id = id;
    snprintf(k->name, sizeof k->name, "%s", name);
}

static const char *recall(const void *conn, int64_t id)
{
    for (unsigned i = 0; i < KNOWN; i++)
        if (known[i].conn == conn && known[i].id == id && known[i].name[0])
            return known[i].name;
    return "of an earlier process";
}

/* "order's name and what it belongs to"; false for what isn't worth a point. */
static bool label_of(const struct pfx_conn *conn, const struct pfx_msg *msg, char *label,
                     size_t size)
{
    const char *type = pfx_msg_schema(msg)->name;
    if (pfx_msg_is(msg, &pfx_s_job)) {
        const char *kind = pfx_msg_str(msg, "kind");
        remember(NULL, pfx_msg_int(msg, "job"), kind);
        snprintf(label, size, "%s %s", type, kind);
    } else if (pfx_msg_is(msg, &pfx_s_done)) {
        snprintf(label, size, "%s %s %s", type, recall(NULL, pfx_msg_int(msg, "job")),
                 pfx_msg_str(msg, "class"));
    } else if (pfx_msg_is(msg, &pfx_s_ack)) {
        snprintf(label, size, "%s %s", type, recall(NULL, pfx_msg_int(msg, "job")));
    } else if (pfx_msg_is(msg, &pfx_s_req)) {
        remember(conn, pfx_msg_int(msg, "id"), pfx_msg_str(msg, "verb"));
        snprintf(label, size, "%s %s", type, pfx_msg_str(msg, "verb"));
    } else if (pfx_msg_is(msg, &pfx_s_item) || pfx_msg_is(msg, &pfx_s_end)) {
        snprintf(label, size, "%s %s", type, recall(conn, pfx_msg_int(msg, "id")));
    } else if (pfx_msg_is(msg, &pfx_s_hello)) {
        snprintf(label, size, "%s %s", type, pfx_msg_str(msg, "role"));
    } else if (pfx_msg_is(msg, &pfx_s_welcome) || pfx_msg_is(msg, &pfx_s_pull)) {
        snprintf(label, size, "%s", type);
    } else { /* beats come by the clock */
        return false;
    }
    return true;
}

/* Written to the buffer, and not yet to the socket. */
static struct pending {
    const struct pfx_conn *conn; /* NULL: free */
    char label[KILL_NAME_SIZE / 2];
} pending[PENDING];

static void wait_for_pump(const struct pfx_conn *conn, const char *label)
{
    for (unsigned i = 0; i < PENDING; i++) {
        if (pending[i].conn)
            continue;
        pending[i].conn = conn;
        snprintf(pending[i].label, sizeof pending[i].label, "%s", label);
        return;
    }
}

static void pumped(const struct pfx_conn *conn)
{
    for (unsigned i = 0; i < PENDING; i++) {
        if (pending[i].conn != conn)
            continue;
        pending[i].conn = NULL;
        kill_point("%s sent", pending[i].label);
    }
}

KILL_WRAP(pfx_result, pfx_conn_next, struct pfx_conn *conn, struct pfx_msg **ret_msg,
          struct pfx_error *err)
{
    char label[KILL_NAME_SIZE / 2];
    pfx_result r = __real_pfx_conn_next(conn, ret_msg, err);
    if (pfx_ok(r) && *ret_msg && label_of(conn, *ret_msg, label, sizeof label)) {
        if (kill_came)
            kill_came(*ret_msg, label);
        kill_point("%s came", label);
    }
    return r;
}

KILL_WRAP(pfx_result, pfx_conn_send, struct pfx_conn *conn, const struct pfx_msg *msg,
          struct pfx_error *err)
{
    char label[KILL_NAME_SIZE / 2];
    bool named = label_of(conn, msg, label, sizeof label);
    /* A job's transaction has just ended: that point is the same. */
    if (named && !pfx_msg_is(msg, &pfx_s_job))
        kill_point("%s before", label);
    pfx_result r = __real_pfx_conn_send(conn, msg, err);
    if (named && pfx_ok(r))
        wait_for_pump(conn, label);
    return r;
}

KILL_WRAP(pfx_result, pfx_conn_pump, struct pfx_conn *conn, struct pfx_error *err)
{
    pfx_result r = __real_pfx_conn_pump(conn, err);
    if (pfx_conn_queued(conn) == 0)
        pumped(conn);
    return r;
}

KILL_WRAP(void, pfx_conn_free, struct pfx_conn *conn)
{
    for (unsigned i = 0; i < PENDING; i++)
        if (pending[i].conn == conn)
            pending[i].conn = NULL;
    for (unsigned i = 0; i < KNOWN && conn; i++)
        if (known[i].conn == conn)
            known[i].name[0] = '\0';
    __real_pfx_conn_free(conn);
}
