/* Frames over a socket. Both buffers are bounded: the one for reading by the ceiling of what is
 * accepted plus one chunk, the one for writing by MOST_QUEUED plus one message. */
#include "api/wire/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/wire/clock.h"

#define HEADER 4u
#define CHUNK 65536u
#define MOST_QUEUED ((size_t)64 * 1024 * 1024)
#define MOST_MESSAGE ((size_t)16 * 1024 * 1024)
#define KEEP ((size_t)1024 * 1024) /* an empty buffer larger than this is given back */

struct pfx_conn {
    int fd;
    struct pfx_peer peer;
    const struct pfx_wire_schema *const *accepts;
    size_t n_accepts;
    size_t ceiling;
    struct pfx_buf in;
    size_t in_off; /* bytes of in that are used up */
    struct pfx_buf out;
    size_t out_off;
    bool gone;  /* end of file or reset */
    bool spoilt; /* the peer broke the protocol: there is no way back into step */
};

static struct pfx_buf make_buf(size_t max)
{
    struct pfx_buf buf = pfx_buf_make(max);
    buf.wipe = true; /* whether a secret passes is known only when it has passed */
    return buf;
}

struct pfx_conn *pfx_conn_new(int fd, const struct pfx_wire_schema *const *accepts,
                              size_t n_accepts)
{
    struct pfx_conn *conn = pfx_alloc(sizeof(*conn));
    conn->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        conn->peer = (struct pfx_peer){cred.pid, cred.uid, cred.gid};
    else /* nobody: allowed nothing */
        conn->peer = (struct pfx_peer){0, (uid_t)-1, (gid_t)-1};
    conn->in = make_buf(0);
    conn->out = make_buf(MOST_QUEUED + MOST_MESSAGE);
    pfx_conn_accepts(conn, accepts, n_accepts);
    return conn;
}

void pfx_conn_free(struct pfx_conn *conn)
{
    if (!conn)
        return;
    close(conn->fd);
    pfx_buf_done(&conn->in);
    pfx_buf_done(&conn->out);
    free(conn);
}

void pfx_conn_accepts(struct pfx_conn *conn, const struct pfx_wire_schema *const *accepts,
                      size_t n_accepts)
{
    conn->accepts = accepts;
    conn->n_accepts = n_accepts;
    conn->ceiling = 0;
    for (size_t i = 0; i < n_accepts; i++)
        if (accepts[i]->ceiling > conn->ceiling)
            conn->ceiling = accepts[i]->ceiling;
    size_t max = HEADER + conn->ceiling + CHUNK;
    conn->in.max = max > conn->in.len ? max : conn->in.len;
}

int pfx_conn_fd(const struct pfx_conn *conn)
{
    return conn->fd;
}

const struct pfx_peer *pfx_conn_peer(const struct pfx_conn *conn)
{
    return &conn->peer;
}

/* Length of the frame at the start of the input, once its header is there. */
static bool frame_len(const struct pfx_conn *conn, size_t *ret_len)
{
    if (conn->in.len - conn->in_off < HEADER)
        return false;
    const uint8_t *p = conn->in.data + conn->in_off;
    *ret_len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    return true;
}

/* A message, or the end of the line, that pfx_conn_next has to tell first. */
static bool something_waits(const struct pfx_conn *conn)
{
    size_t len;
    if (conn->spoilt)
        return true;
    return frame_len(conn, &len) &&
           (len > conn->ceiling || conn->in.len - conn->in_off - HEADER >= len);
}

short pfx_conn_events(const struct pfx_conn *conn)
{
    short events = 0;
    if (!conn->gone && !something_waits(conn))
        events |= POLLIN;
    if (!conn->gone && pfx_conn_queued(conn) > 0)
        events |= POLLOUT;
    return events;
}

/* Removes what is used up; what was moved leaves no copy behind. */
static void compact(struct pfx_buf *buf, size_t *off)
{
    if (*off == 0)
        return;
    size_t len = buf->len;
    pfx_buf_drop(buf, *off);
    OPENSSL_cleanse(buf->data + buf->len, len - buf->len);
    *off = 0;
    if (buf->len == 0 && buf->cap > KEEP) {
        size_t max = buf->max;
        pfx_buf_done(buf);
        *buf = make_buf(max);
    }
}

static pfx_result lost(struct pfx_conn *conn, int errnum, struct pfx_error *err)
{
    conn->gone = true;
    if (errnum == 0 || errnum == ECONNRESET || errnum == EPIPE)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "connection", "socket", "",
                        "the other side has closed it");
    pfx_result r = pfx_fail_errno(err, errnum, "connection", "socket", "");
    r.cls = PFX_CLASS_TRANSIENT;
    return r;
}

static pfx_result write_queued(struct pfx_conn *conn, struct pfx_error *err)
{
    while (conn->out_off < conn->out.len) {
        ssize_t n = send(conn->fd, conn->out.data + conn->out_off,
                         conn->out.len - conn->out_off, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return PFX_OK;
        if (n < 0)
            return lost(conn, errno, err);
        conn->out_off += (size_t)n;
    }
    compact(&conn->out, &conn->out_off);
    return PFX_OK;
}

static pfx_result read_more(struct pfx_conn *conn, struct pfx_error *err)
{
    uint8_t chunk[CHUNK];
    pfx_result r = PFX_OK;
    compact(&conn->in, &conn->in_off);
    /* Not further than one whole message: who doesn't take what is there gets no more. */
    while (!something_waits(conn)) {
        ssize_t n = recv(conn->fd, chunk, sizeof(chunk), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            r = lost(conn, n < 0 ? errno : 0, err);
            break;
        }
        /* Can't go over: less than header and ceiling was there. */
        if (!pfx_buf_add(&conn->in, chunk, (size_t)n)) {
            conn->spoilt = true;
            break;
        }
    }
    OPENSSL_cleanse(chunk, sizeof(chunk));
    return r;
}

pfx_result pfx_conn_pump(struct pfx_conn *conn, struct pfx_error *err)
{
    if (conn->gone)
        return lost(conn, 0, err);
    /* A peer that has answered and closed can't be written to any more, but be read to the end. */
    pfx_result w = write_queued(conn, err);
    conn->gone = false;
    pfx_result r = read_more(conn, err);
    conn->gone = pfx_failed(w) || pfx_failed(r);
    return pfx_failed(w) ? w : r;
}

pfx_result pfx_conn_next(struct pfx_conn *conn, struct pfx_msg **ret_msg, struct pfx_error *err)
{
    size_t len;
    *ret_msg = NULL;
    if (conn->spoilt)
        return pfx_fail(err, PFX_CLASS_REFUSED, "connection", "socket", "",
                        "the other side broke the protocol: close the connection");
    if (!frame_len(conn, &len))
        return PFX_OK;
    if (len > conn->ceiling) {
        conn->spoilt = true;
        return pfx_fail(err, PFX_CLASS_REFUSED, "connection", "socket", "",
                        "a message of %zu bytes was announced, more than %zu", len,
                        conn->ceiling);
    }
    if (conn->in.len - conn->in_off - HEADER < len)
        return PFX_OK;
    const char *json = (const char *)conn->in.data + conn->in_off + HEADER;
    pfx_result r =
        pfx_msg_decode_any(conn->accepts, conn->n_accepts, json, len, ret_msg, err);
    conn->spoilt = pfx_failed(r);
    /* What was read may have been a secret; the next one may be long in coming. */
    OPENSSL_cleanse(conn->in.data + conn->in_off, HEADER + len);
    conn->in_off += HEADER + len;
    if (conn->in_off == conn->in.len)
        compact(&conn->in, &conn->in_off);
    return r;
}

pfx_result pfx_conn_send(struct pfx_conn *conn, const struct pfx_msg *msg, struct pfx_error *err)
{
    if (pfx_conn_queued(conn) > MOST_QUEUED)
        return pfx_fail(err, PFX_CLASS_REFUSED, "connection", "socket", "",
                        "the other side doesn't read: more than %zu MiB wait for it",
                        MOST_QUEUED >> 20);
    /* Each byte is moved once at most, unless what was sent takes the room of what is to be. */
    if (conn->out_off > conn->out.len / 2 || conn->out.len > MOST_QUEUED)
        compact(&conn->out, &conn->out_off);
    size_t start = conn->out.len;
    if (!pfx_buf_add(&conn->out, "\0\0\0\0", HEADER))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "connection", "socket", "", "no room to send");
    pfx_result r = pfx_msg_encode(msg, true, &conn->out, err);
    if (pfx_failed(r)) {
        conn->out.len = start;
        return r;
    }
    size_t len = conn->out.len - start - HEADER;
    for (unsigned i = 0; i < HEADER; i++)
        conn->out.data[start + i] = (uint8_t)(len >> (24 - 8 * i));
    return PFX_OK;
}

size_t pfx_conn_queued(const struct pfx_conn *conn)
{
    return conn->out.len - conn->out_off;
}

pfx_result pfx_conn_call(struct pfx_conn *conn, const struct pfx_msg *request, int timeout_ms,
                         struct pfx_msg **ret_reply, struct pfx_error *err)
{
    int64_t end = pfx_wire_clock_ms() + timeout_ms;
    if (request)
        PFX_TRY(pfx_conn_send(conn, request, err));
    for (;;) {
        struct pfx_error gone = PFX_ERROR_NONE;
        struct pfx_msg *reply = NULL;
        pfx_result r = pfx_conn_pump(conn, &gone);
        PFX_TRY(pfx_conn_next(conn, &reply, err));
        if (reply) {
            *ret_reply = reply;
            return PFX_OK;
        }
        if (pfx_failed(r))
            return pfx_fail(err, r.cls, gone.op, gone.object, gone.code, "%s", gone.text);
        int64_t left = end - pfx_wire_clock_ms();
        if (left <= 0)
            return pfx_fail(err, PFX_CLASS_TRANSIENT, "connection", "socket", "ETIMEDOUT",
                            "no answer within %d ms", timeout_ms);
        struct pollfd pfd = {conn->fd, pfx_conn_events(conn), 0};
        (void)!poll(&pfd, 1, (int)left); /* EINTR and errors: pump tells */
    }
}
