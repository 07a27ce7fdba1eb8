/* Connections of the module to the process that holds the token. */
#include "hsm-test/cryptoki/link.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define IDLE_MAX 64

struct tt_link {
    int fd;
    unsigned generation; /* of the application that it belongs to */
    struct tt_frame out, in;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool ready, nobody, broken;
    unsigned generation;
    int fd;         /* as long as it is open, the token's process keeps our objects */
    char path[108]; /* where our calls go */
    struct tt_link *idle[IDLE_MAX];
    size_t n_idle;
} app = {.fd = -1};

static void end_link(struct tt_link *link)
{
    close(link->fd);
    tt_done(&link->out);
    tt_done(&link->in);
    free(link);
}

static int connect_to(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path)
        return -1;
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool server_path(const char *parameters, char *out, size_t size)
{
    static const char tag[] = "pfx-test-token=";
    const char *from = parameters ? strstr(parameters, tag) : NULL;
    const char *given = getenv("PFX_TEST_TOKEN");
    if (!from && !given)
        return false;
    from = from ? from + strlen(tag) : given;
    int n = snprintf(out, size, "%.*s", (int)strcspn(from, " "), from);
    return n > 0 && (size_t)n < size;
}

CK_RV tt_link_up(const char *parameters)
{
    char path[108];
    struct tt_frame hello = {0};
    size_t len = 0;
    CK_RV rv = CKR_OK;
    pthread_mutex_lock(&lock);
    if (app.ready) {
        rv = CKR_CRYPTOKI_ALREADY_INITIALIZED;
    } else if (!server_path(parameters, path, sizeof path)) {
        fprintf(stderr, "pfx_test_token: PFX_TEST_TOKEN doesn't say where the token is\n");
        rv = CKR_GENERAL_ERROR;
    } else {
        app.fd = connect_to(path);
        unsigned char *mine = NULL;
        if (app.fd >= 0 && tt_receive(app.fd, &hello))
            mine = tt_get_bytes(&hello, &len);
        if (!mine && app.fd >= 0) {
            close(app.fd);
            app.fd = -1;
        }
        if (mine && len < sizeof app.path) {
            memcpy(app.path, mine, len);
            app.path[len] = '\0';
        }
        app.nobody = !mine;
        app.ready = true;
        app.broken = false;
        app.generation++;
    }
    tt_done(&hello);
    pthread_mutex_unlock(&lock);
    return rv;
}

void tt_link_down(void)
{
    pthread_mutex_lock(&lock);
    while (app.n_idle > 0)
        end_link(app.idle[--app.n_idle]);
    if (app.fd >= 0)
        close(app.fd);
    app.fd = -1;
    app.ready = false;
    pthread_mutex_unlock(&lock);
}

bool tt_link_ready(void)
{
    pthread_mutex_lock(&lock);
    bool ready = app.ready;
    pthread_mutex_unlock(&lock);
    return ready;
}

bool tt_link_nobody(void)
{
    pthread_mutex_lock(&lock);
    bool nobody = app.ready && app.nobody;
    pthread_mutex_unlock(&lock);
    return nobody;
}

struct tt_link *tt_link_take(enum tt_function function)
{
    struct tt_link *link = NULL;
    char path[108];
    pthread_mutex_lock(&lock);
    bool alive = app.ready && !app.nobody && !app.broken;
    if (alive && app.n_idle > 0)
        link = app.idle[--app.n_idle];
    unsigned generation = app.generation;
    memcpy(path, app.path, sizeof path);
    pthread_mutex_unlock(&lock);
    if (alive && !link) {
        int fd = connect_to(path);
        if (fd < 0) {
            pthread_mutex_lock(&lock);
            app.broken = true;
            pthread_mutex_unlock(&lock);
            return NULL;
        }
        link = calloc(1, sizeof *link);
        if (!link)
            abort();
        link->fd = fd;
        link->generation = generation;
    }
    if (link) {
        tt_begin(&link->out);
        tt_put(&link->out, function);
    }
    return link;
}

struct tt_frame *tt_link_out(struct tt_link *link)
{
    return &link->out;
}

struct tt_frame *tt_link_in(struct tt_link *link)
{
    return &link->in;
}

CK_RV tt_link_ask(struct tt_link *link)
{
    if (link->out.bad)
        return CKR_HOST_MEMORY; /* a call that is larger than a frame */
    if (tt_send(link->fd, &link->out) && tt_receive(link->fd, &link->in))
        return tt_get(&link->in);
    pthread_mutex_lock(&lock);
    if (link->generation == app.generation)
        app.broken = true;
    pthread_mutex_unlock(&lock);
    close(link->fd);
    link->fd = -1;
    return CKR_DEVICE_ERROR;
}

static void wipe(struct tt_frame *frame)
{
    if (frame->at)
        explicit_bzero(frame->at, frame->cap);
}

void tt_link_give(struct tt_link *link)
{
    wipe(&link->out);
    wipe(&link->in);
    pthread_mutex_lock(&lock);
    bool keep =
        link->fd >= 0 && app.ready && link->generation == app.generation && app.n_idle < IDLE_MAX;
    if (keep)
        app.idle[app.n_idle++] = link;
    pthread_mutex_unlock(&lock);
    if (!keep)
        end_link(link);
}
