/* Path sockets: stale ones, taken ones, modes, and who may connect. */
#include "api_test.h"

#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>

#include "api/wire/conn.h"

static struct pfx_error err;
static const char *folder;

static char *in_folder(const char *name)
{
    return pfx_asprintf("%s/%s", folder, name);
}

static void listen_connect_accept(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("a");
    int listener, client, server;
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_connect(path, &client, &err), PFX_CLASS_TRANSIENT, &err);
    assert_string_equal(err.code, "ENOENT");
    err = PFX_ERROR_NONE;
    assert_ok(pfx_sock_listen(path, 0660, (gid_t)-1, &listener, &err), &err);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0660); /* whatever the umask */
    assert_ok(pfx_sock_accept(listener, &server, &err), &err);
    assert_int_equal(server, -1);
    assert_ok(pfx_sock_connect(path, &client, &err), &err);
    assert_ok(pfx_sock_accept(listener, &server, &err), &err);
    assert_true(server >= 0);
    assert_int_equal(fcntl(server, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(server, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close(server);
    close(client);
    /* Taken: the listener isn't disturbed. */
    int second;
    assert_class(pfx_sock_listen(path, 0660, (gid_t)-1, &second, &err), PFX_CLASS_USAGE, &err);
    assert_has(err.text, "another process listens");
    assert_ok(pfx_sock_accept(listener, &server, &err), &err); /* the probe's connection */
    assert_true(server >= 0);
    close(server);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_sock_connect(path, &client, &err), &err);
    close(client);
    close(listener);
}

static void stale(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("stale");
    int listener, client;
    err = PFX_ERROR_NONE;
    for (int i = 0; i < 2; i++) { /* the second time the file of the first one is in the way */
        assert_ok(pfx_sock_listen(path, 0600, (gid_t)-1, &listener, &err), &err);
        close(listener);
        assert_class(pfx_sock_connect(path, &client, &err), PFX_CLASS_TRANSIENT, &err);
        assert_string_equal(err.code, "ECONNREFUSED");
        err = PFX_ERROR_NONE;
    }
    /* And what a process left that died in between. */
    char *temp PFX_AUTOFREE = in_folder("stale.new");
    test_write(temp, "", 0600);
    assert_ok(pfx_sock_listen(path, 0600, (gid_t)-1, &listener, &err), &err);
    assert_int_equal(access(temp, F_OK), -1);
    assert_ok(pfx_sock_connect(path, &client, &err), &err);
    close(client);
    close(listener);
}

static void only_one_takes_it(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("race"), *lock_path PFX_AUTOFREE = in_folder("race.lock");
    int listener;
    int lock = open(lock_path, O_RDWR | O_CREAT, 0600);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_listen(path, 0600, (gid_t)-1, &listener, &err), PFX_CLASS_TRANSIENT,
                 &err);
    close(lock);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_sock_listen(path, 0600, (gid_t)-1, &listener, &err), &err);
    close(listener);
}

static void not_ours_to_replace(void **state)
{
    (void)state;
    char *path PFX_AUTOFREE = in_folder("file");
    int listener;
    test_write(path, "precious", 0600);
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_listen(path, 0600, (gid_t)-1, &listener, &err), PFX_CLASS_USAGE, &err);
    assert_int_equal(access(path, F_OK), 0);
    /* The folder is missing, the path too long, or relative. */
    char *missing PFX_AUTOFREE = in_folder("no/such");
    err = PFX_ERROR_NONE;
    assert_true(pfx_failed(pfx_sock_listen(missing, 0600, (gid_t)-1, &listener, &err)));
    assert_has(err.text, "folder");
    char longer[120];
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[107] = 0;
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_connect(longer, &listener, &err), PFX_CLASS_TRANSIENT, &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_listen(longer, 0600, (gid_t)-1, &listener, &err), PFX_CLASS_USAGE, &err);
    longer[107] = 'x';
    longer[108] = 0;
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_connect(longer, &listener, &err), PFX_CLASS_USAGE, &err);
    err = PFX_ERROR_NONE;
    assert_class(pfx_sock_connect("relative", &listener, &err), PFX_CLASS_USAGE, &err);
}

static void peers(void **state)
{
    (void)state;
    uid_t none = (uid_t)-1;
    gid_t no_group = (gid_t)-1;
    struct pfx_peer root = {1, 0, 0}, own = {1, geteuid(), getegid()};
    struct pfx_peer stranger = {1, 54321, 54322}, nobody = {0, none, no_group};
    assert_true(pfx_peer_allowed(&root, none, no_group));
    assert_true(pfx_peer_allowed(&own, none, no_group));
    assert_false(pfx_peer_allowed(&stranger, none, no_group));
    assert_false(pfx_peer_allowed(&stranger, 54320, 54320));
    assert_true(pfx_peer_allowed(&stranger, 54321, no_group));
    assert_true(pfx_peer_allowed(&stranger, none, 54322));
    /* A failed SO_PEERCRED doesn't match "don't care". */
    assert_false(pfx_peer_allowed(&nobody, none, no_group));
    /* A supplementary group, looked up by the user: take the first one that the system knows. */
    const struct group *group;
    bool found = false;
    setgrent();
    while (!found && (group = getgrent()) != NULL) {
        const struct passwd *user = group->gr_mem[0] ? getpwnam(group->gr_mem[0]) : NULL;
        if (!user || user->pw_uid == 0 || user->pw_uid == geteuid())
            continue;
        struct pfx_peer member = {1, user->pw_uid, 54322};
        assert_true(pfx_peer_allowed(&member, none, group->gr_gid));
        assert_false(pfx_peer_allowed(&member, none, 54323));
        found = true;
    }
    endgrent();
    /* The primary group by the user's record, where the process runs with another one. */
    const struct passwd *mail = getpwnam("mail");
    if (mail && mail->pw_uid != geteuid()) {
        struct pfx_peer peer = {1, mail->pw_uid, 54322};
        assert_true(pfx_peer_allowed(&peer, none, mail->pw_gid));
    }
}

/* Another user is told who it is, and a mode of 0600 keeps it out; both need root to try. */
static void another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char *path PFX_AUTOFREE = in_folder("open"), *closed PFX_AUTOFREE = in_folder("closed");
    int listener, other, server = -1;
    err = PFX_ERROR_NONE;
    assert_int_equal(chmod(folder, 0755), 0);
    assert_ok(pfx_sock_listen(path, 0666, (gid_t)-1, &listener, &err), &err);
    assert_ok(pfx_sock_listen(closed, 0660, 54324, &other, &err), &err);
    struct stat st;
    assert_int_equal(stat(closed, &st), 0);
    assert_int_equal(st.st_gid, 54324);
    pid_t pid = fork();
    if (pid == 0) {
        int fd;
        char byte;
        if (setgroups(0, NULL) != 0 || setgid(54322) != 0 || setuid(54321) != 0)
            _exit(1);
        if (pfx_sock_connect(closed, &fd, &err).cls != PFX_CLASS_REFUSED)
            _exit(2);
        if (pfx_failed(pfx_sock_connect(path, &fd, NULL)))
            _exit(3);
        fcntl(fd, F_SETFL, 0);
        (void)!read(fd, &byte, 1); /* until the other side has seen us */
        _exit(0);
    }
    for (int i = 0; i < 500 && server < 0; i++) {
        assert_ok(pfx_sock_accept(listener, &server, &err), &err);
        usleep(10000);
    }
    assert_true(server >= 0);
    struct pfx_conn *conn = pfx_conn_new(server, NULL, 0);
    assert_int_equal(pfx_conn_peer(conn)->uid, 54321);
    assert_int_equal(pfx_conn_peer(conn)->gid, 54322);
    assert_int_equal(pfx_conn_peer(conn)->pid, pid);
    assert_false(pfx_peer_allowed(pfx_conn_peer(conn), (uid_t)-1, (gid_t)-1));
    pfx_conn_free(conn);
    close(listener);
    close(other);
}

static int set_up(void **state)
{
    (void)state;
    folder = test_folder();
    umask(027); /* the socket's mode is the one asked for all the same */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_remove_folder(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listen_connect_accept), cmocka_unit_test(stale),
        cmocka_unit_test(only_one_takes_it),     cmocka_unit_test(not_ours_to_replace),
        cmocka_unit_test(peers),                 cmocka_unit_test(another_user),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
