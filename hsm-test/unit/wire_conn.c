/* Frames: whole, in pieces, hostile, too long, and a peer that doesn't read. */
#include "api_test.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "api/wire/conn.h"
#include "api/wire/tables.h"

LOCAL_SCHEMA(note, "note", 256 * KIB, STR("text", 0, 200 * KIB, 0, ""));
LOCAL_SCHEMA(small, "small", 64, INT("n", 0, 9, 0, ""));
static const struct pfx_wire_schema *const accepts[] = {&note, &small};
static const struct pfx_wire_schema *const only_small[] = {&small};

static struct pfx_error err;

struct pair {
    struct pfx_conn *conn;
    int peer; /* the raw other end */
};

static struct pair open_pair(void)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    return (struct pair){pfx_conn_new(fds[0], accepts, 2), fds[1]};
}

static void close_pair(struct pair *pair)
{
    pfx_conn_free(pair->conn);
    close(pair->peer);
}

static void raw(const struct pair *pair, const void *data, size_t len)
{
    assert_int_equal(write(pair->peer, data, len), (ssize_t)len);
}

static size_t frame(char *out, const char *json)
{
    size_t len = strlen(json);
    out[0] = out[1] = 0;
    out[2] = (char)(len >> 8);
    out[3] = (char)len;
    memcpy(out + 4, json, len);
    return len + 4;
}

static struct pfx_msg *next(const struct pair *pair)
{
    struct pfx_msg *msg = NULL;
    err = PFX_ERROR_NONE;
    assert_ok(pfx_conn_pump(pair->conn, &err), &err);
    assert_ok(pfx_conn_next(pair->conn, &msg, &err), &err);
    return msg;
}

static void byte_by_byte(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char bytes[100];
    size_t len = frame(bytes, "{\"v\":1,\"t\":\"small\",\"n\":7}");
    for (size_t i = 0; i + 1 < len; i++) {
        raw(&pair, bytes + i, 1);
        assert_null(next(&pair));
        assert_int_equal(pfx_conn_events(pair.conn), POLLIN);
    }
    raw(&pair, bytes + len - 1, 1);
    struct pfx_msg *msg PFX_AUTOMSG = next(&pair);
    assert_non_null(msg);
    assert_int_equal(pfx_msg_int(msg, "n"), 7);
    assert_null(next(&pair));
    close_pair(&pair);
}

/* What waits is handed out one by one, and nothing more is read meanwhile. */
static void many_at_once(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char bytes[100], all[300];
    size_t len = frame(bytes, "{\"v\":1,\"t\":\"small\",\"n\":1}");
    for (int i = 0; i < 3; i++)
        memcpy(all + (size_t)i * len, bytes, len);
    raw(&pair, all, 3 * len - 5);
    assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    assert_int_equal(pfx_conn_events(pair.conn), 0);
    for (int i = 0; i < 2; i++) {
        struct pfx_msg *msg PFX_AUTOMSG = NULL;
        assert_ok(pfx_conn_next(pair.conn, &msg, &err), &err);
        assert_non_null(msg);
    }
    assert_int_equal(pfx_conn_events(pair.conn), POLLIN);
    assert_null(next(&pair));
    raw(&pair, all, 5); /* the start of another one, in place of the end: the bytes differ */
    struct pfx_msg *msg = NULL;
    assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    assert_class(pfx_conn_next(pair.conn, &msg, &err), PFX_CLASS_REFUSED, &err);
    close_pair(&pair);
}

static void hostile(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\xFF\xFF\xFF\xFF", 4},              /* 4 GiB announced */
        {"\0\4\0\1", 4},                      /* a byte more than the largest ceiling */
        {"\0\0\0\0", 4},                      /* empty */
        {"\0\0\0\2[]", 6},
        {"\0\0\0\2{}", 6},                    /* no version, no type */
        {"\0\0\0\4{}\0\0", 8},
        {"\0\0\0\x19{\"v\":1,\"t\":\"small\",\"n\":10}", 30},
        {"\0\0\0\x14{\"v\":1,\"t\":\"small\"}x", 24},
        {"GET / HTTP/1.1\r\n\r\n", 18},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pair pair = open_pair();
        struct pfx_msg *msg = NULL;
        raw(&pair, bad[i].bytes, bad[i].len);
        assert_ok(pfx_conn_pump(pair.conn, &err), &err);
        for (int again = 0; again < 2; again++) { /* there is no way back into step */
            err = PFX_ERROR_NONE;
            assert_class(pfx_conn_next(pair.conn, &msg, &err), PFX_CLASS_REFUSED, &err);
            assert_null(msg);
        }
        assert_int_equal(pfx_conn_events(pair.conn) & POLLIN, 0);
        close_pair(&pair);
    }
}

static void ceiling_by_type(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char bytes[200], json[150] = "{\"v\":1,\"t\":\"small\",\"n\":1";
    memset(json + 24, ' ', 50);
    json[74] = '}';
    json[75] = 0;
    raw(&pair, bytes, frame(bytes, json)); /* fits the largest, not its own */
    struct pfx_msg *msg = NULL;
    assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    assert_class(pfx_conn_next(pair.conn, &msg, &err), PFX_CLASS_REFUSED, &err);
    close_pair(&pair);
    /* What is accepted can change on the way. */
    pair = open_pair();
    pfx_conn_accepts(pair.conn, only_small, 1);
    raw(&pair, "\0\0\0\x41", 4);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    assert_class(pfx_conn_next(pair.conn, &msg, &err), PFX_CLASS_REFUSED, &err);
    close_pair(&pair);
}

/* A peer that sends without end: what we keep stays below one frame and one chunk. */
static void flood(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char junk[65536] = {0};
    size_t sent = 0;
    junk[2] = (char)0xFF; /* frames of 0xFF00 bytes, each refused */
    for (int i = 0; i < 200; i++) {
        ssize_t n = write(pair.peer, junk, sizeof(junk));
        if (n > 0)
            sent += (size_t)n;
        assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    }
    /* The kernel's buffers and ours: far from 200 times 64 KiB. */
    assert_true(sent < (size_t)2 * 1024 * 1024);
    close_pair(&pair);
}

static void gone(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char bytes[100];
    raw(&pair, bytes, frame(bytes, "{\"v\":1,\"t\":\"small\",\"n\":3}"));
    raw(&pair, bytes, 10); /* half a frame after it */
    shutdown(pair.peer, SHUT_RDWR);
    close(pair.peer);
    struct pfx_msg *msg = NULL;
    assert_ok(pfx_conn_pump(pair.conn, &err), &err); /* a whole message waits: not read on */
    assert_ok(pfx_conn_next(pair.conn, &msg, &err), &err);
    assert_non_null(msg);
    pfx_msg_free(msg);
    assert_class(pfx_conn_pump(pair.conn, &err), PFX_CLASS_TRANSIENT, &err);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_conn_next(pair.conn, &msg, &err), &err);
    assert_null(msg);
    pfx_conn_free(pair.conn);

    /* Writing to one that is gone is no signal; its last words are still read. */
    pair = open_pair();
    raw(&pair, bytes, frame(bytes, "{\"v\":1,\"t\":\"small\",\"n\":3}"));
    close(pair.peer);
    struct pfx_msg *out PFX_AUTOMSG = pfx_msg_new(&small);
    pfx_msg_set_int(out, "n", 1);
    assert_ok(pfx_conn_send(pair.conn, out, &err), &err);
    assert_class(pfx_conn_pump(pair.conn, &err), PFX_CLASS_TRANSIENT, &err);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_conn_next(pair.conn, &msg, &err), &err);
    assert_non_null(msg);
    pfx_msg_free(msg);
    pfx_conn_free(pair.conn);
}

/* 10 MiB through a socket buffer of a few KiB, in both directions. */
static void partial_writes(void **state)
{
    (void)state;
    int fds[2], size = 4096;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    struct pfx_conn *a = pfx_conn_new(fds[0], accepts, 2), *b = pfx_conn_new(fds[1], accepts, 2);
    char *text PFX_AUTOFREE = pfx_alloc(200 * KIB + 1);
    for (size_t i = 0; i < 200 * KIB; i++)
        text[i] = (char)('a' + i % 26);
    struct pfx_msg *out PFX_AUTOMSG = pfx_msg_new(&note);
    pfx_msg_set_str(out, "text", text);
    for (int i = 0; i < 50; i++)
        assert_ok(pfx_conn_send(a, out, &err), &err);
    assert_true(pfx_conn_queued(a) > (size_t)50 * 200 * KIB);
    assert_int_equal(pfx_conn_events(a), POLLIN | POLLOUT);
    int got = 0;
    for (int i = 0; i < 200000 && got < 50; i++) {
        struct pfx_msg *in PFX_AUTOMSG = NULL;
        assert_ok(pfx_conn_pump(a, &err), &err);
        assert_ok(pfx_conn_pump(b, &err), &err);
        assert_ok(pfx_conn_next(b, &in, &err), &err);
        if (in) {
            assert_string_equal(pfx_msg_str(in, "text"), text);
            got++;
        }
    }
    assert_int_equal(got, 50);
    assert_int_equal(pfx_conn_queued(a), 0);
    pfx_conn_free(a);
    pfx_conn_free(b);
}

static void a_peer_that_does_not_read(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    char *text PFX_AUTOFREE = pfx_alloc(200 * KIB + 1);
    memset(text, 'x', 200 * KIB);
    struct pfx_msg *out PFX_AUTOMSG = pfx_msg_new(&note);
    pfx_msg_set_str(out, "text", text);
    pfx_result r = PFX_OK;
    int n = 0;
    err = PFX_ERROR_NONE;
    while (pfx_ok(r = pfx_conn_send(pair.conn, out, &err)) && n < 1000)
        n++;
    assert_int_equal(r.cls, PFX_CLASS_REFUSED);
    assert_true(n > 300 && n < 340); /* 64 MiB */
    /* What was read of it leaves room for as much. */
    static char taken[64 * KIB];
    for (size_t left = (size_t)30 * MIB; left > sizeof(taken);) {
        ssize_t got = read(pair.peer, taken, sizeof(taken));
        left -= got > 0 ? (size_t)got : 0;
        err = PFX_ERROR_NONE;
        assert_ok(pfx_conn_pump(pair.conn, &err), &err);
    }
    for (n = 0; pfx_ok(r = pfx_conn_send(pair.conn, out, &err)) && n < 1000;)
        n++;
    assert_int_equal(r.cls, PFX_CLASS_REFUSED);
    assert_true(n > 140 && n < 160);
    close_pair(&pair);
    /* What can't be encoded leaves the queue as it was. */
    pair = open_pair();
    struct pfx_msg *bad PFX_AUTOMSG = pfx_msg_new(&small);
    err = PFX_ERROR_NONE;
    assert_class(pfx_conn_send(pair.conn, bad, &err), PFX_CLASS_USAGE, &err);
    assert_int_equal(pfx_conn_queued(pair.conn), 0);
    close_pair(&pair);
}

static void credentials(void **state)
{
    (void)state;
    struct pair pair = open_pair();
    const struct pfx_peer *peer = pfx_conn_peer(pair.conn);
    assert_int_equal(peer->pid, getpid());
    assert_int_equal(peer->uid, geteuid());
    assert_int_equal(peer->gid, getegid());
    assert_int_equal(fcntl(pfx_conn_fd(pair.conn), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close_pair(&pair);
}

static void *answer(void *arg)
{
    struct pfx_conn *conn = arg;
    struct pfx_msg *request PFX_AUTOMSG = NULL, *unused = NULL;
    struct pfx_error mine = PFX_ERROR_NONE;
    if (pfx_ok(pfx_conn_call(conn, NULL, 5000, &request, &mine))) {
        struct pfx_msg *reply PFX_AUTOMSG = pfx_msg_new(&small);
        pfx_msg_set_int(reply, "n", pfx_msg_int(request, "n") + 1);
        pfx_result r = pfx_conn_call(conn, reply, 200, &unused, &mine);
        (void)r;
    }
    pfx_conn_free(conn);
    return NULL;
}

static void call(void **state)
{
    (void)state;
    int fds[2];
    pthread_t thread;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct pfx_conn *conn = pfx_conn_new(fds[0], accepts, 2);
    assert_int_equal(pthread_create(&thread, NULL, answer, pfx_conn_new(fds[1], accepts, 2)), 0);
    struct pfx_msg *request PFX_AUTOMSG = pfx_msg_new(&small), *reply PFX_AUTOMSG = NULL;
    struct pfx_msg *none = NULL;
    pfx_msg_set_int(request, "n", 4);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_conn_call(conn, request, 5000, &reply, &err), &err);
    assert_int_equal(pfx_msg_int(reply, "n"), 5);
    assert_class(pfx_conn_call(conn, NULL, 20, &none, &err), PFX_CLASS_TRANSIENT, &err);
    assert_has(err.text, "no answer");
    pthread_join(thread, NULL);
    err = PFX_ERROR_NONE;
    assert_class(pfx_conn_call(conn, NULL, 5000, &none, &err), PFX_CLASS_TRANSIENT, &err);
    assert_has(err.text, "closed");
    pfx_conn_free(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(hostile),
        cmocka_unit_test(ceiling_by_type),
        cmocka_unit_test(flood),
        cmocka_unit_test(gone),
        cmocka_unit_test(partial_writes),
        cmocka_unit_test(a_peer_that_does_not_read),
        cmocka_unit_test(credentials),
        cmocka_unit_test(call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
