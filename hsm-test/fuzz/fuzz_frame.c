/*
 * A hostile peer on a socket: frames in pieces of any size, of each side of each socket.
 *
 *   SIDE SEED\n     whom it speaks to, and how the bytes are cut into pieces and stopped
 *   bytes           as they come; a side written in capitals: lines, each of which gets the header
 *                   of a frame
 *
 * What is taken obeys its ceiling and goes out again, byte for byte the same each time.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "api/wire/conn.h"
#include "api/wire/messages.h"
#include "fuzz.h"

#define ROOM ((size_t)16 * 1024 * 1024)

static const struct pfx_wire_schema *const from_new_arm[] = {&pfx_s_hello};
static const struct pfx_wire_schema *const from_arm[] = {&pfx_s_pull, &pfx_s_beat, &pfx_s_done};
static const struct pfx_wire_schema *const to_new_arm[] = {&pfx_s_welcome, &pfx_s_bye};
static const struct pfx_wire_schema *const to_arm[] = {&pfx_s_job, &pfx_s_ack, &pfx_s_bye};
static const struct pfx_wire_schema *const from_client[] = {&pfx_s_req};
static const struct pfx_wire_schema *const to_client[] = {&pfx_s_item, &pfx_s_end, &pfx_s_bye};
static const struct side {
    const char *name;
    const struct pfx_wire_schema *const *accepts;
    size_t n;
} sides[] = {{"hello", from_new_arm, 1}, {"arm", from_arm, 3},    {"welcome", to_new_arm, 2},
             {"job", to_arm, 3},         {"req", from_client, 1}, {"item", to_client, 3}};

/* The socket, in memory. */
static struct {
    struct pfx_bytes in;
    struct pfx_buf out;
    uint32_t seed;
    unsigned stops;
} line;

static uint32_t draw(void)
{
    line.seed = line.seed * 1664525u + 1013904223u;
    return line.seed >> 16;
}

/* Now and then a signal, and now and then nothing yet; both end. */
static bool stopped(void)
{
    uint32_t what = draw() % 8;
    if (line.stops == 0 || what > 1)
        return false;
    line.stops--;
    errno = what == 0 ? EINTR : EAGAIN;
    return true;
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
    (void)fd;
    (void)flags;
    if (stopped())
        return -1;
    if (line.in.len == 0) {
        errno = draw() % 2 ? ECONNRESET : EBADF;
        return draw() % 3 ? 0 : -1;
    }
    size_t most = draw() % 4 ? len : 1 + draw() % 16;
    size_t n = line.in.len < most ? line.in.len : most;
    memcpy(data, line.in.data, n);
    line.in.data += n;
    line.in.len -= n;
    return (ssize_t)n;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
    (void)fd;
    (void)flags;
    if (stopped())
        return -1;
    if (draw() % 32 == 0) {
        errno = draw() % 2 ? EPIPE : EIO;
        return -1;
    }
    size_t n = draw() % 4 ? len : 1 + draw() % 64;
    n = n < len ? n : len;
    must(pfx_buf_add(&line.out, data, n));
    return (ssize_t)n;
}

/* Half of the peers can't be known. */
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    (void)fd;
    must(level == SOL_SOCKET && name == SO_PEERCRED && *len == sizeof(struct ucred));
    *(struct ucred *)value = (struct ucred){1, 2, 3};
    return draw() % 2 ? -1 : 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    (void)n;
    (void)timeout;
    must((fds->events & ~(POLLIN | POLLOUT)) == 0);
    return 1;
}

/* One that can be sent: a body that was read has to be decoded first. NULL: its kind is unknown,
 * or its body isn't one of that kind. */
static struct pfx_msg *copy_of(const struct pfx_msg *msg)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(msg);
    const struct pfx_wire_schema *inner = NULL;
    const char *member = schema == &pfx_s_req ? "args" : "body";
    if (schema == &pfx_s_job || schema == &pfx_s_req) {
        const char *name = pfx_msg_str(msg, schema == &pfx_s_job ? "kind" : "verb");
        const struct pfx_wire_pair *pair = pfx_wire_find(pfx_wire_jobs, name);
        pair = pair ? pair : pfx_wire_find(pfx_wire_agent, name);
        pair = pair ? pair : pfx_wire_find(pfx_wire_admin, name);
        pair = pair ? pair : pfx_wire_find(pfx_wire_broker, name);
        inner = pair ? pair->request : NULL;
    } else if (schema == &pfx_s_done) {
        inner = pfx_wire_find(pfx_wire_jobs, "up.remove")->result;
    } else {
        inner = pfx_wire_find(pfx_wire_broker, "assertion")->result;
    }
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *body = NULL;
    if (!inner)
        return NULL;
    if (pfx_failed(pfx_msg_body(msg, member, inner, &body, &err))) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return NULL;
    }
    PFX_AUTOMSG struct pfx_msg *copy = pfx_msg_new(schema);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        if (!pfx_msg_has(msg, field->name))
            continue;
        if (field->type == PFX_W_INT)
            pfx_msg_set_int(copy, field->name, pfx_msg_int(msg, field->name));
        else if (field->type == PFX_W_STR)
            pfx_msg_set_str(copy, field->name, pfx_msg_str(msg, field->name));
        else if (field->type == PFX_W_BODY)
            pfx_msg_set_body(copy, field->name, body);
        else {
            struct pfx_error said;
            pfx_msg_get_error(msg, field->name, &said);
            must(said.cls != PFX_CLASS_OK);
            pfx_msg_put_error(copy, field->name, &said);
        }
    }
    return PFX_TAKE(copy);
}

static bool has_body(const struct pfx_wire_schema *schema)
{
    for (size_t i = 0; i < schema->n_fields; i++)
        if (schema->fields[i].type == PFX_W_BODY)
            return true;
    return false;
}

/* Encodes, reads that, encodes again: the same. Appends the frame to wanted, and sends it. */
static void send_back(struct pfx_conn *conn, const struct pfx_msg *msg, struct pfx_buf *wanted)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(msg);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(schema->ceiling);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(schema->ceiling);
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *read = NULL;
    pfx_result r = pfx_msg_encode(msg, true, &text, &err);
    must(pfx_ok(r));
    must(pfx_ok(pfx_msg_decode_any(&schema, 1, pfx_buf_str(&text), text.len, &read, &err)));
    PFX_AUTOMSG struct pfx_msg *copy = has_body(schema) ? copy_of(read) : PFX_TAKE(read);
    must(copy != NULL && pfx_ok(pfx_msg_encode(copy, true, &again, &err)));
    must(same(pfx_buf_bytes(&text), pfx_buf_bytes(&again)));
    uint8_t head[4] = {(uint8_t)(text.len >> 24), (uint8_t)(text.len >> 16),
                       (uint8_t)(text.len >> 8), (uint8_t)text.len};
    must(pfx_buf_add(wanted, head, 4) && pfx_buf_add(wanted, text.data, text.len));
    must(pfx_ok(pfx_conn_send(conn, msg, &err)));
}

static void take(struct pfx_conn *conn, const struct side *side, const struct pfx_msg *msg,
                 struct pfx_buf *wanted)
{
    bool accepted = false;
    for (size_t i = 0; i < side->n; i++)
        accepted = accepted || pfx_msg_is(msg, side->accepts[i]);
    must(accepted);
    PFX_AUTOMSG struct pfx_msg *copy = has_body(pfx_msg_schema(msg)) ? copy_of(msg) : NULL;
    if (copy || !has_body(pfx_msg_schema(msg)))
        send_back(conn, copy ? copy : msg, wanted);
}

static void serve(struct pfx_conn *conn, const struct side *side)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf wanted = pfx_buf_make(ROOM);
    struct pfx_error err = PFX_ERROR_NONE;
    bool going = true;
    while (going) {
        pfx_result pumped = pfx_conn_pump(conn, &err);
        going = pfx_ok(pumped);
        must(going || pumped.cls == PFX_CLASS_TRANSIENT);
        for (;;) {
            PFX_AUTOMSG struct pfx_msg *msg = NULL;
            struct pfx_error why = PFX_ERROR_NONE;
            pfx_result r = pfx_conn_next(conn, &msg, &why);
            if (pfx_failed(r)) {
                must(r.cls == PFX_CLASS_REFUSED && !msg);
                must_say(&why);
                why = (struct pfx_error)PFX_ERROR_NONE;
                must(pfx_failed(pfx_conn_next(conn, &msg, &why))); /* there is no way back */
                going = false;
            }
            if (!msg)
                break;
            must((pfx_conn_events(conn) & ~(POLLIN | POLLOUT)) == 0);
            take(conn, side, msg, &wanted);
        }
    }
    if (err.cls != PFX_CLASS_OK) /* gone is gone */
        must(pfx_failed(pfx_conn_pump(conn, NULL)));
    /* What left is the beginning of what was sent. */
    must(line.out.len + pfx_conn_queued(conn) == wanted.len);
    must(line.out.len == 0 || memcmp(line.out.data, wanted.data, line.out.len) == 0);
}

/* A client's way: one question, one answer. */
static void ask(struct pfx_conn *conn)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *question = pfx_msg_new(&pfx_s_req);
    PFX_AUTOMSG struct pfx_msg *answer = NULL;
    pfx_msg_set_int(question, "id", 1);
    pfx_msg_set_str(question, "verb", "status");
    pfx_result r = pfx_conn_call(conn, question, (int)(line.seed % 2), &answer, &err);
    must(pfx_ok(r) == (answer != NULL));
    if (pfx_failed(r))
        must_say(&err);
}

static struct pfx_buf framed(struct pfx_bytes bytes)
{
    struct pfx_buf out = pfx_buf_make(ROOM);
    while (bytes.len > 0) {
        struct pfx_bytes text = take_until(&bytes, '\n');
        uint8_t head[4] = {0, (uint8_t)(text.len >> 16), (uint8_t)(text.len >> 8),
                           (uint8_t)text.len};
        pfx_buf_add(&out, head, 4);
        pfx_buf_add(&out, text.data, text.len);
    }
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes head = take_until(&rest, '\n');
    struct pfx_bytes seed = head;
    struct pfx_bytes word = take_until(&seed, ' ');
    PFX_AUTOFREE char *name = text_of(word);
    bool lines = isupper((unsigned char)name[0]);
    const struct side *side = &sides[any_of(word, sizeof sides / sizeof *sides)];
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        if (strcasecmp(sides[i].name, name) == 0)
            side = &sides[i];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf frames = lines ? framed(rest) : pfx_buf_make(1);
    line.in = lines ? pfx_buf_bytes(&frames) : rest;
    line.out = pfx_buf_make(ROOM);
    line.seed = seed.len ? (uint32_t)any_of(seed, 0xFFFF) : 0;
    line.stops = 16;
    struct pfx_conn *conn = pfx_conn_new(-1, side->accepts, side->n);
    const struct pfx_peer *peer = pfx_conn_peer(conn);
    must(pfx_conn_fd(conn) == -1 && (peer->uid == (uid_t)-1 || peer->uid == 2));
    if (side->accepts == to_client && seed.len > 0 && seed.data[0] == '?')
        ask(conn);
    else
        serve(conn, side);
    pfx_conn_free(conn);
    pfx_conn_free(NULL);
    pfx_buf_done(&line.out);
    return 0;
}
